"""Adds, removes and re-registers simulated nodes.

Two kinds. A *hollow* node is a real kubelet (kubemark) on a fake container runtime, with the rights
of a node and nothing more. A *bare* node is a Node object that `lab.pod_life` keeps alive.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import processes
from lab.api import Api, ApiError, Object
from lab.errors import LabError, LabInputError
from lab.leftovers import remove_leftovers
from lab.pki import Authority, write_kubeconfig
from lab.ports import free_ports
from lab.state import LabNode, LabPaths, LabState, save

READY_BOUND_SECONDS = 90.0
GONE_BOUND_SECONDS = 30.0
POLL_SECONDS = 0.05
BARE_LABEL = "lab.gpumem.io/bare"
NODE_CPU = "64"
NODE_MEMORY = "512Gi"
BARE_POD_COUNT = "500"
NOT_READY_TAINT = "node.kubernetes.io/not-ready"

# Labels of Kubernetes' own namespaces that a kubelet may set on itself (NodeRestriction); others of
# those namespaces are an administrator's to set, here as on a real cluster.
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
RESTRICTED_NAMESPACES = ("kubernetes.io", "k8s.io")


class Nodes:
    """The nodes of one lab. Whoever calls holds the lab's lock."""

    def __init__(self, paths: LabPaths, state: LabState, api: Api, tools: Mapping[str, Path]) -> None:
        self._paths = paths
        self._state = state
        self._api = api
        self._tools = tools

    def add(self, nodes: Sequence[LabNode]) -> None:
        """Registers nodes and waits until the scheduler may use them.

        Raises:
            LabInputError: A name is there already, or twice in `nodes`.
            LabError: A node did not become ready in time.
        """
        names = [node.name for node in self._state.nodes] + [node.name for node in nodes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise LabInputError(f"lab {self._state.name!r}: node {', '.join(twice)} is there already or named twice")
        self._state.nodes += nodes
        save(self._paths, self._state)  # before anything starts: what is remembered can be cleaned
        for node in nodes:
            self._register(node)
        for node in nodes:
            self._wait_ready(node)

    def remove(self, name: str) -> None:
        """Ends the node's kubelet, deletes the Node object and forgets the node."""
        node = self._state.node(name)
        self._unregister(node)
        self._state.nodes.remove(node)
        save(self._paths, self._state)

    def adopt(self, node: LabNode) -> None:
        """Gives a Node object that an autoscaler has made a kubelet, or pod life; nobody is waited for."""
        self._state.nodes.append(node)
        save(self._paths, self._state)
        if node.kind == "hollow":
            self._start_kubelet(node)
            return
        path = f"/api/v1/nodes/{node.name}"
        self._api.patch(f"{path}/status", {"status": bare_node(node, self._state.ports["pod-life"])["status"]})
        self._api.patch(path, {"metadata": {"labels": {BARE_LABEL: "true"}}})

    def let_go(self, name: str) -> None:
        """Ends the kubelet, if any, of a node whose Node object an autoscaler has deleted, and forgets the node."""
        self._end_kubelet(name)
        self._state.nodes.remove(self._state.node(name))
        save(self._paths, self._state)

    def reregister(self, name: str, *, wait: bool = True) -> None:
        """Deletes the Node object and registers the machine again, as after a reinstall.

        Everything that others had written on the old object (labels, capacity) is gone.

        Args:
            name: The node.
            wait: False returns as soon as the new registration is under way.
        """
        node = self._state.node(name)
        self._unregister(node)
        self._register(node)
        if wait:
            self._wait_ready(node)

    def _register(self, node: LabNode) -> None:
        if node.kind == "bare":
            self._api.post("/api/v1/nodes", bare_node(node, self._state.ports["pod-life"]))
        else:
            self._start_kubelet(node)

    def _start_kubelet(self, node: LabNode) -> None:
        (port,) = free_ports(1)
        own, restricted = split_labels(node.labels)
        resources = {"cpu": NODE_CPU, "memory": NODE_MEMORY} | {
            name: str(count) for name, count in node.extended_resources.items()
        }
        process = processes.start(
            process_name(node.name),
            [
                str(self._tools["kubemark"]),
                "--morph=kubelet",
                f"--name={node.name}",
                f"--kubeconfig={self._node_kubeconfig(node.name)}",
                f"--node-labels={_pairs(own)}",
                f"--extended-resources={_pairs(resources)}",
                "--use-host-image-service=false",  # otherwise it looks for containerd and exits
                f"--kubelet-port={port}",
                "--kubelet-read-only-port=0",
            ],
            lab_dir=self._paths.dir,
            log=self._paths.logs / f"{process_name(node.name)}.log",
            env={"TMPDIR": str(self._paths.scratch)},
        )
        self._state.hollow_nodes_started = True
        self._state.processes.append(process)
        save(self._paths, self._state)
        if restricted:
            self._wait_ready(node)
            self._api.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": restricted}})

    def _node_kubeconfig(self, name: str) -> Path:
        folder = self._paths.identities
        folder.mkdir(mode=0o700, exist_ok=True)
        user = f"system:node:{name}"
        pair = Authority.load(self._paths.pki, "ca").client(f"node-{name}", user, ["system:nodes"])
        server = f"https://127.0.0.1:{self._state.ports['apiserver']}"
        return write_kubeconfig(folder / f"node-{name}.kubeconfig", server, self._paths.pki / "ca.crt", user, pair=pair)

    def _end_kubelet(self, name: str) -> None:
        if process := self._state.process(process_name(name)):
            processes.stop([process])
            self._state.processes.remove(process)
            save(self._paths, self._state)
            remove_leftovers([Path(process.log)])

    def _unregister(self, node: LabNode) -> None:
        self._end_kubelet(node.name)
        path = f"/api/v1/nodes/{node.name}"
        self._api.delete(path)
        self._api.delete(lease_path(node.name))
        deadline = time.monotonic() + GONE_BOUND_SECONDS
        while self._api.exists(path):
            if time.monotonic() > deadline:
                raise LabError(f"node {node.name} is still there {GONE_BOUND_SECONDS:.0f} s after its deletion")
            time.sleep(POLL_SECONDS)

    def _wait_ready(self, node: LabNode) -> None:
        deadline = time.monotonic() + READY_BOUND_SECONDS
        while not self._is_usable(node):
            process = self._state.process(process_name(node.name))
            if process is not None and not processes.alive(process):
                raise LabError(f"the kubelet of {node.name} ended ({process.log}):\n{processes.log_tail(process)}")
            if time.monotonic() > deadline:
                tail = f":\n{processes.log_tail(process)}" if process else ""
                raise LabError(f"node {node.name} was not ready after {READY_BOUND_SECONDS:.0f} s{tail}")
            time.sleep(POLL_SECONDS)

    def _is_usable(self, node: LabNode) -> bool:
        try:
            found = self._api.get(f"/api/v1/nodes/{node.name}")
        except ApiError:
            return False
        taints = {taint["key"] for taint in found["spec"].get("taints", [])}
        allocatable = found.get("status", {}).get("allocatable", {})
        return (
            is_ready(found) and NOT_READY_TAINT not in taints and node.extended_resources.keys() <= allocatable.keys()
        )


def process_name(node: str) -> str:
    """The role under which a hollow node's kubelet is remembered."""
    return f"kubelet-{node}"


def lease_path(node: str) -> str:
    """The API path of a node's heartbeat."""
    return f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"


def is_ready(node: Object) -> bool:
    """Whether a Node object's Ready condition is True."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def split_labels(labels: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels that a kubelet may set on its own node, and those that only an administrator may."""
    own = {key: value for key, value in labels.items() if _kubelet_may_set(key)}
    return own, {key: value for key, value in labels.items() if key not in own}


def _kubelet_may_set(key: str) -> bool:
    namespace = key.rpartition("/")[0]
    if key in KUBELET_LABELS or _within(namespace, KUBELET_LABEL_NAMESPACES):
        return True
    return not _within(namespace, RESTRICTED_NAMESPACES)


def _within(namespace: str, domains: Sequence[str]) -> bool:
    return any(namespace == domain or namespace.endswith(f".{domain}") for domain in domains)


def _pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items()))


def bare_node(node: LabNode, pod_life_port: int) -> Object:
    """The Node object of a bare node, as a kubelet would register it: ready, with its resources."""
    resources = {"cpu": NODE_CPU, "memory": NODE_MEMORY, "pods": BARE_POD_COUNT, "ephemeral-storage": "100Gi"}
    resources |= {name: str(count) for name, count in node.extended_resources.items()}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    beat = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    pressures = {
        "MemoryPressure": "KubeletHasSufficientMemory",
        "DiskPressure": "KubeletHasNoDiskPressure",
        "PIDPressure": "KubeletHasSufficientPID",
    }
    conditions = [{"type": kind, "status": "False", "reason": why, **beat} for kind, why in pressures.items()]
    conditions.append({"type": "Ready", "status": "True", "reason": "LabPodLife", **beat})
    machine = {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": machine | node.labels | {BARE_LABEL: "true"}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": conditions,
            # The host name, not the node's: the API server dials it for logs, and it must resolve.
            "addresses": [{"type": "Hostname", "address": "localhost"}, {"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": pod_life_port}},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "gpumem lab (simulated)",
                "kernelVersion": "", "kubeletVersion": "v1.36.1", "kubeProxyVersion": "", "machineID": "",
                "systemUUID": "", "bootID": "", "containerRuntimeVersion": "lab-pod-life://1",
            },
        },
    }  # fmt: skip
