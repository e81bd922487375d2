"""The lab's GPUs: from the use of its pods to what the driver stand-in and the host's proc tree show.

Each node has a folder ``gpu/<node>/`` in the lab: ``nvml.state`` for the stand-in and ``proc/`` for the
exporter's ``--host-proc``. Each pod that uses memory is one process on one card, in a container of its
own; it stays on its card and keeps its pid as long as it lives.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.domain.capacity import node_kinds
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.memory import BYTES_PER_MIB
from helpers.rendering.estate_file import load_estate
from lab import cluster
from lab.api import Object
from lab.fake_nvml.build import ensure_library
from lab.fake_nvml.host_proc import HostProcess, HostProcTree, containerd_systemd
from lab.fake_nvml.state import STATE_VARIABLE, FakeDriver, FakeGpu, FakeProcess
from lab.usage import PodUsage, UsageStore

FOLDER = "gpu"
REFRESH_SECONDS = 0.2
DRIVER_RESERVED_MIB = 450  # what a T4's driver keeps for itself
_FIRST_PID = 1000


@dataclass(frozen=True)
class Card:
    """A simulated card. `reserved_mib` is the driver's own part, `foreign_mib` what no pod owns."""

    model: str
    physical_mib: int
    reserved_mib: int = 0
    foreign_mib: int = 0


def cards_of(node: Node) -> tuple[Card, ...]:
    """The cards that an estate declares for one node, idle: of the reserve only the driver's own part is there."""
    return tuple(
        Card(gpu.model, gpu.physical_mib, min(gpu.reserve_mib, DRIVER_RESERVED_MIB))
        for gpu in node.gpus
        for _ in range(gpu.count)
    )


@dataclass(frozen=True)
class _Seat:
    pid: int
    card: int
    uid: str


class NodeGpus:
    """One node's cards and the files that show them."""

    def __init__(self, folder: Path, node: str, cards: Sequence[Card]) -> None:
        self.state_file = folder / "nvml.state"
        self.proc_folder = folder / "proc"
        self._node = node
        self._cards = tuple(cards)
        self._tree = HostProcTree(self.proc_folder)
        self._seats: dict[str, _Seat] = {}
        self._next_pid = _FIRST_PID
        folder.mkdir(parents=True, exist_ok=True)

    def exporter_environment(self) -> dict[str, str]:
        """What an exporter of this node needs in its environment to meet the stand-in instead of a driver."""
        return {"LD_LIBRARY_PATH": str(ensure_library()), STATE_VARIABLE: str(self.state_file)}

    def show(self, pods: Mapping[str, Object], used_mib: Mapping[str, int]) -> None:
        """Writes both: `pods` by `namespace/name`, and the MiB of those that use any."""
        users = {name: pods[name] for name in sorted(used_mib) if name in pods}
        self._seat(users, used_mib)
        # The tree first: a process that NVML lists must be there, as on a real machine.
        self._tree.write(HostProcess(self._seats[name].pid, _cgroup(pod), comm="tenant") for name, pod in users.items())
        gpus = tuple(self._gpu(number, card, used_mib) for number, card in enumerate(self._cards))
        FakeDriver(gpus).write(self.state_file)

    def _seat(self, users: Mapping[str, Object], used_mib: Mapping[str, int]) -> None:
        kept = {
            name: seat
            for name, seat in self._seats.items()
            if name in users and users[name]["metadata"]["uid"] == seat.uid
        }
        self._seats = kept
        for name, pod in users.items():
            if name not in kept:
                self._seats[name] = _Seat(self._next_pid, self._roomiest(used_mib), pod["metadata"]["uid"])
                self._next_pid += 1

    def _roomiest(self, used_mib: Mapping[str, int]) -> int:
        def free_mib(number: int) -> int:
            card = self._cards[number]
            return card.physical_mib - card.reserved_mib - card.foreign_mib - self._seated_mib(number, used_mib)

        return max(range(len(self._cards)), key=lambda number: (free_mib(number), -number))

    def _seated_mib(self, number: int, used_mib: Mapping[str, int]) -> int:
        return sum(used_mib[name] for name, seat in self._seats.items() if seat.card == number)

    def _gpu(self, number: int, card: Card, used_mib: Mapping[str, int]) -> FakeGpu:
        used = self._seated_mib(number, used_mib) + card.foreign_mib
        return FakeGpu(
            uuid=f"GPU-{self._node}-{number}",
            model=card.model,
            total_bytes=card.physical_mib * BYTES_PER_MIB,
            reserved_bytes=card.reserved_mib * BYTES_PER_MIB,
            used_bytes=used * BYTES_PER_MIB,
            processes=tuple(
                FakeProcess(seat.pid, used_mib[name] * BYTES_PER_MIB)
                for name, seat in self._seats.items()
                if seat.card == number
            ),
        )


class GpuSimulation:
    """All nodes of a lab that have cards.

    Args:
        lab_dir: The lab's folder.
        cards: The cards of each node by the node's name.
    """

    def __init__(self, lab_dir: Path, cards: Mapping[str, Sequence[Card]]) -> None:
        self._usage = UsageStore(lab_dir)
        self.nodes = {node: NodeGpus(lab_dir / FOLDER / node, node, own) for node, own in cards.items() if own}

    def refresh(self, pods: Sequence[Object]) -> None:
        """Shows the use of `pods` (Pod objects of the whole cluster) as it is now."""
        by_name = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod for pod in pods}
        usage = self._usage.read()
        for node, gpus in self.nodes.items():
            gpus.show(by_name, _on(node, usage))

    def follow(self, pods: Callable[[], Sequence[Object]], stop: threading.Event) -> None:
        """Refreshes until `stop`; `pods` is asked each time."""
        while not stop.is_set():
            self.refresh(pods())
            stop.wait(REFRESH_SECONDS)


def _on(node: str, usage: Mapping[str, PodUsage]) -> dict[str, int]:
    return {pod: one.used_mib for pod, one in usage.items() if one.node == node}


def _cgroup(pod: Object) -> str:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    container_id = str(statuses[0].get("containerID", "")).rpartition("://")[2] if statuses else ""
    return containerd_systemd(pod["metadata"]["uid"], container_id or "starting")


def cards_by_node(estate: Estate, nodes: Sequence[Object]) -> dict[str, tuple[Card, ...]]:
    """The cards of every Node object in `nodes` that is of a kind that the estate declares."""
    entries = {entry.name: entry for entry in estate.nodes}
    found = {}
    for node in nodes:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
        for kind in node_kinds(estate):
            if kind.matches(name, labels):
                found[name] = cards_of(entries[kind.name])
    return found


def main() -> int:
    """Simulate the cards of a running lab until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m lab.gpu_simulation")
    parser.add_argument("--lab", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--estate", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    api = cluster.get(arguments.lab, arguments.root).api()
    estate, _ = load_estate(arguments.estate, allow_overcommit=True)
    cards = cards_by_node(estate, api.get("/api/v1/nodes")["items"])
    simulation = GpuSimulation(cluster.get(arguments.lab, arguments.root).dir, cards)
    simulation.follow(lambda: api.get("/api/v1/pods")["items"], stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
