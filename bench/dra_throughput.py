"""Pods bound per second with budgets as claims, beside the same pods with budgets by the node's number.

Brings up a lab of its own. All pods are there before the scheduler starts: a Deployment makes them, so that
kube-controller-manager's many threads do, and with claims it makes those as well. What is measured is then the
scheduler alone, by the instants of its own bindings. Admission is on: every pod is made with the plain number, and
the tenant's policy in the API server sets its budget: the number again, or a reference to its claim template.
Nodes are bare Node objects, so pods are bound and nothing runs. On some nodes the agent itself publishes the cards
and goes on looking; for the others its slice is written by this program. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from bench.machine import busy_seconds
from helpers.adapters.kubernetes_ import connect
from helpers.domain.dra.devices import Device
from helpers.domain.dra.rights import dra_agent_rights
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice
from helpers.domain.estate.model import Estate
from helpers.domain.quantity import canonical_count
from helpers.rendering.render import render
from lab import cluster as lab_cluster
from lab.api import Api, ApiError
from lab.cluster import Lab
from lab.dra_agent_process import RESOURCES, Agent, rtx
from lab.nodes import bare_node
from lab.rights import grant_rights
from lab.state import LabNode, load

NAMESPACE, RESOURCE, LABEL, SCHEDULER = "throughput", "bench.test/gpumem", {"app": "load"}, "kube-scheduler"
CARD_MIB, BUDGET_MIB, CARDS_COUNT = 24000, 4000, 8
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CLAIMS = f"{RESOURCES}/namespaces/{NAMESPACE}/resourceclaims"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
BOUND_SECONDS = 1200.0
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: {RESOURCE}
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: pool
    selector: {{bench-pool: "true"}}
    min_nodes: 0
    gpus: [{{model: NVIDIA GeForce RTX 3090, count: {CARDS_COUNT}, physical_mib: 24576, reserve_mib: 576}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: 1536}}
admission: {{}}
tenants:
  - name: load
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: load, container: main}}
    node: pool
    apply: admission
    pod_labels: {{app: load}}
    shares: 0
    budget_mib: {BUDGET_MIB}
    elastic: true
    class: batch
"""


def _estate(backend: str) -> Estate:
    return Estate.model_validate({**yaml.safe_load(ESTATE), "budget": {"backend": backend}})


def _make_nodes(lab: Lab, nodes_count: int, agents_count: int) -> None:
    api, cluster = lab.api(), connect(lab.kubeconfig)
    amount = canonical_count(CARD_MIB * CARDS_COUNT)
    for index in range(nodes_count):
        name = f"bench-{index}"
        node = bare_node(LabNode(name, {"bench-pool": "true"}, {}, "bare"), 0)
        node["metadata"]["labels"].pop("lab.gpumem.io/bare")
        node["status"].pop("daemonEndpoints")
        for part in ("capacity", "allocatable"):
            node["status"][part] = {**node["status"][part], RESOURCE: amount}
        uid = api.post("/api/v1/nodes", node)["metadata"]["uid"]
        if index < agents_count:
            continue
        devices = [Device(f"gpu-{i}", f"GPU-{name}-{i}", "RTX 3090", i, CARD_MIB) for i in range(CARDS_COUNT)]
        cluster.apply(desired_slice(NodeIdentity(name, uid), devices, 1), field_manager="bench")


def _apply(lab: Lab, estate: Estate) -> None:
    """What admission and claims need of the rendering."""
    cluster = connect(lab.kubeconfig)
    for item in render(estate).objects:
        if item.component == "admission" or item.kind in ("DeviceClass", "ResourceClaimTemplate"):
            cluster.apply(item.manifest, field_manager="bench", force=True)
    time.sleep(5)  # A policy is in force once every API server has compiled it.


@contextlib.contextmanager
def _agents(lab: Lab, folder: Path, agents_count: int) -> Iterator[None]:
    """The agents of the first nodes, with a stand-in driver and the rights that they are rendered with."""
    places = [("cluster", ""), ("default", "default")]
    kubeconfig = grant_rights(lab, NAMESPACE, "dra-agent", dra_agent_rights(), places)  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        agents: list[Agent] = []
        for index in range(agents_count):
            own = folder / str(index)
            own.mkdir()
            agent = Agent(lab, own, f"bench-{index}", kubeconfig, ("--interval-seconds", "5"))
            agent.show(*(rtx(number) for number in range(CARDS_COUNT)))
            agent.start()
            stack.callback(agent.stop)
            agents.append(agent)
        _until(lambda: all(len(agent.devices()) == CARDS_COUNT for agent in agents), "an agent does not publish")
        yield


def _deployment(pods_count: int) -> dict[str, Any]:
    amounts = {RESOURCE: canonical_count(BUDGET_MIB)}
    container = {"name": "main", "image": "registry.example.com/x:1", "resources": {"limits": amounts}}
    spec = {
        "automountServiceAccountToken": False,
        "nodeSelector": {"bench-pool": "true"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    template = {"metadata": {"labels": LABEL}, "spec": spec}
    return {
        "metadata": {"name": "load"},
        "spec": {"replicas": pods_count, "selector": {"matchLabels": LABEL}, "template": template},
    }


def _bind(lab: Lab, pods_count: int, *, claims: bool) -> dict[str, float]:
    """Has the pods made while no scheduler runs, starts it, and waits until each has a node."""
    api, command = lab.api(), _command_of(lab, SCHEDULER)
    lab.stop(SCHEDULER)
    began, busy = time.monotonic(), busy_seconds()
    api.post(DEPLOYMENTS, _deployment(pods_count))
    made = (PODS, CLAIMS) if claims else (PODS,)
    _until(lambda: all(_count(api, path) == pods_count for path in made), "not all pods and claims are made")
    made_seconds, made_busy = time.monotonic() - began, busy_seconds()
    lab.spawn(SCHEDULER, command)
    _until(lambda: not api.get(PODS, fieldSelector="spec.nodeName=", limit="1")["items"], "pods are Pending still")
    bound_at = [_bound_at(pod) for pod in api.get(PODS)["items"]]
    return {
        "made_seconds": round(made_seconds, 1),
        "bound_seconds": (max(bound_at) - min(bound_at)).total_seconds(),
        "bound_per_second": round(bound_per_second(bound_at), 1),
        "machine_busy_seconds_making": round(made_busy - busy, 1),
        "machine_busy_seconds_binding": round(busy_seconds() - made_busy, 1),
    }


def _command_of(lab: Lab, name: str) -> list[str]:
    state = load(lab.paths)
    process = state.process(name) if state is not None else None
    if process is None:
        raise SystemExit(f"the lab has no process {name}")
    return Path(f"/proc/{process.pid}/cmdline").read_text().rstrip("\0").split("\0")


def _count(api: Api, path: str) -> int:
    found = api.get(path, limit="1")
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))


def _until(done: Callable[[], bool], problem: str) -> None:
    until = time.monotonic() + BOUND_SECONDS
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"{problem} after {BOUND_SECONDS:.0f} s")
        time.sleep(0.5)


def _bound_at(pod: dict[str, Any]) -> datetime:
    """When the API server took the scheduler's binding."""
    (scheduled,) = [one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
    return datetime.fromisoformat(scheduled["lastTransitionTime"])


def bound_per_second(bound_at: Sequence[datetime]) -> float:
    """Bindings in the whole seconds between the first one's and the last one's: stamps have no fractions.

    Where there is no such second, all of them over the seconds that they are spread over.
    """
    first, last = min(bound_at), max(bound_at)
    whole_seconds = (last - first).total_seconds() - 1
    if whole_seconds < 1:
        return len(bound_at) / (whole_seconds + 2)
    return sum(first < at < last for at in bound_at) / whole_seconds


def _highest_card_mib(api: Api) -> int:
    """What the fullest card has, by its claims."""
    taken: dict[tuple[str, str], int] = {}
    for claim in api.get(CLAIMS)["items"]:
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ()):
            key = (result["pool"], result["device"])
            taken[key] = taken.get(key, 0) + int(result["consumedCapacity"]["memory"].removesuffix("Mi"))
    return max(taken.values(), default=0)


def _remove_pods(api: Api) -> None:
    api.delete(f"{DEPLOYMENTS}/load", {"propagationPolicy": "Background"})
    while api.get(PODS, limit="1")["items"] or api.get(CLAIMS, limit="1")["items"]:
        # One call for all of them, which outlasts the client's patience: it goes on at the server.
        with contextlib.suppress(ApiError):
            api.delete(PODS, {"gracePeriodSeconds": 0})
        time.sleep(0.5)


def main() -> int:
    """Both backends on one lab, the number first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--agents", type=int, default=2, help="nodes on which the agent itself publishes")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lab = lab_cluster.up("bench", [], root, lambda text: print(text, file=sys.stderr))
        try:
            api = lab.api()
            api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            _make_nodes(lab, arguments.nodes, arguments.agents)
            highest_mib = 0
            with _agents(lab, root, arguments.agents):
                for backend in ("extendedResource", "dra"):
                    _apply(lab, _estate(backend))
                    load_before = os.getloadavg()[0]
                    figures[backend] = _bind(lab, arguments.pods, claims=backend == "dra")
                    figures[backend]["load_average_before"] = round(load_before, 1)
                    print(backend, figures[backend], file=sys.stderr)
                    highest_mib = max(highest_mib, _highest_card_mib(api))
                    if backend == "extendedResource":  # what is left at the end goes with the lab
                        _remove_pods(api)
        finally:
            lab_cluster.down("bench", root)
    ratio = figures["dra"]["bound_per_second"] / figures["extendedResource"]["bound_per_second"]
    line = {
        "bench": "dra_throughput",
        "nodes": arguments.nodes,
        "cards_per_node": CARDS_COUNT,
        "pods": arguments.pods,
        **figures,
        "dra_to_number_ratio": round(ratio, 3),
        "fullest_card_mib": highest_mib,
        "card_mib": CARD_MIB,
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "agents": f"{arguments.agents}; the other nodes' slices are written by the benchmark",
    }
    print(json.dumps(line))
    return 0 if highest_mib <= CARD_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
