"""The real Karpenter with its kwok provider: it makes Node objects for waiting pods, and no machines.

Its two ports bind all interfaces, because it has flags for ports and none for addresses: like kubemark's,
a named exception to "everything on loopback". What kwok's own controller would do, keep such nodes alive,
hollow kubelets do here, each for one Node object by its name, or pod life, on which jobs end.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import processes
from lab.api import Object
from lab.crds import NoCrds, apply_crds, find_crds
from lab.errors import LabError
from lab.nodes import NODE_CPU, NODE_MEMORY
from lab.ports import free_ports
from lab.running import Lab
from lab.state import LabNode, NodeKind
from lab.toolchain import TOOLS, ToolModule, built_module, ensure_module

KARPENTER_VERSION = "v1.13.0"
MODULE = ToolModule(f"Karpenter {KARPENTER_VERSION}", TOOLS / "karpenter", {"kwok": "sigs.k8s.io/karpenter/kwok"})
PROCESS = "karpenter"
NODE_CLASS = {"api_version": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass"}
GPU = "nvidia.com/gpu"
ZONES = ("lab-a", "lab-b")
# Spot at 30 % of the price, so that Karpenter's own choice, the cheapest, is visible.
PRICE_FACTOR = {"spot": 0.3, "on-demand": 1.0}
POLL_SECONDS = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Machine:
    """A kind of machine that the provider offers: its name, its GPUs, and USD an hour on demand."""

    name: str
    gpu_count: int
    hourly_usd: float


def ensure_karpenter(progress: Progress) -> Path:
    """The program, built where the cache has none (about two and a half minutes of one core).

    Raises:
        LabError: There is no Go, or the build failed.
    """
    return ensure_module(MODULE, progress)["kwok"]


def built_karpenter() -> Path | None:
    """The program, where it has been built."""
    built = built_module(MODULE)
    return None if built is None else built["kwok"]


def instance_types(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """The provider's catalogue in its own form (kwok/cloudprovider/instance_types.json)."""
    return [
        {
            "name": machine.name,
            "offerings": [
                {
                    "Price": machine.hourly_usd * factor,
                    "Available": True,
                    "Requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [capacity_type]},
                        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]},
                    ],
                }
                for zone in ZONES
                for capacity_type, factor in PRICE_FACTOR.items()
            ],
            "architecture": "amd64",
            "operatingSystems": ["linux"],
            "resources": {
                "cpu": NODE_CPU,
                "memory": NODE_MEMORY,
                "ephemeral-storage": "1000Gi",
                "pods": "110",
                GPU: str(machine.gpu_count),
            },
        }
        for machine in machines
    ]


@contextlib.contextmanager
def karpenter(
    lab: Lab,
    program: Path,
    machines: Sequence[Machine],
    extended: Mapping[str, int] | None = None,
    kind: NodeKind = "hollow",
) -> Iterator[Adopter]:
    """Karpenter beside a lab, with its nodes adopted; ended, and its nodes let go, at the end.

    Args:
        lab: A lab that is up; the CRDs are applied to it.
        program: The built program.
        machines: What the provider offers.
        extended: Further resources that a machine's kubelet shows, such as the advertised MiB.
        kind: What adopts a Node object: a hollow kubelet, whose containers never end, or pod life.
    """
    definitions = find_crds("karpenter")
    if isinstance(definitions, NoCrds):
        raise LabError(f"Karpenter's CRDs cannot be had: {definitions.reason}")
    apply_crds(lab.api(), definitions)
    catalogue = lab.dir / "instance-types.json"
    catalogue.write_text(json.dumps(instance_types(machines)))
    metrics_port, health_port = free_ports(2)
    command = [str(program), "--disable-leader-election", f"--instance-types-file-path={catalogue}"]
    command += [f"--metrics-port={metrics_port}", f"--health-probe-port={health_port}"]
    command += ["--feature-gates=NodeOverlay=true"]
    environment = {"KUBECONFIG": str(lab.kubeconfig), "SYSTEM_NAMESPACE": "kube-system", "HOME": os.environ["HOME"]}
    process = lab.spawn(PROCESS, command, environment)
    adopter = Adopter(lab, {machine.name: machine for machine in machines}, extended or {}, kind)
    adopter.start()
    try:
        time.sleep(POLL_SECONDS)
        if not processes.alive(process):
            raise LabError(f"karpenter ended ({process.log}):\n{processes.log_tail(process)}")
        yield adopter
    finally:
        adopter.stop()
        lab.stop(PROCESS)


class Adopter:
    """Has each Node object of the provider adopted, and lets go of it when the object is gone."""

    def __init__(self, lab: Lab, machines: Mapping[str, Machine], extended: Mapping[str, int], kind: NodeKind) -> None:
        self._kind = kind
        self._lab = lab
        self._api = lab.api()
        self._machines = machines
        self._extended = extended
        self._adopted: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adopter")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the kubelets as well; the Node objects stay as they are.

        Raises:
            LabError: The adopter had failed meanwhile.
        """
        self._stopped.set()
        self._thread.join()
        for name in sorted(self._adopted):
            self._lab.node_let_go(name)
        self._raise_failure()

    def nodes(self) -> dict[str, Object]:
        """The provider's Node objects by name, being deleted or not.

        Raises:
            LabError: The adopter had failed meanwhile.
        """
        self._raise_failure()
        return self._there()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise LabError(f"nodes are no longer adopted: {self.failure!r}") from self.failure

    def _there(self) -> dict[str, Object]:
        items: list[Object] = self._api.get("/api/v1/nodes")["items"]
        return {
            node["metadata"]["name"]: node for node in items if node["spec"].get("providerID", "").startswith("kwok://")
        }

    def _run(self) -> None:
        try:
            while not self._stopped.wait(POLL_SECONDS):
                self._step()
        except BaseException as error:  # noqa: BLE001 - handed to whoever holds the adopter, and raised there
            self.failure = error

    def _step(self) -> None:
        there = self._there()
        for name in sorted(there.keys() - self._adopted):
            machine = self._machines[there[name]["metadata"]["labels"]["node.kubernetes.io/instance-type"]]
            resources = {GPU: machine.gpu_count} | dict(self._extended)
            self._lab.node_adopt(LabNode(name, {}, resources, self._kind))
            self._adopted.add(name)
        for name in sorted(self._adopted - there.keys()):
            self._lab.node_let_go(name)
            self._adopted.discard(name)
