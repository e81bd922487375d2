"""A node's devices, processes and pods as values that a test sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from helpers.domain.errors import DependencyError
from helpers.domain.telemetry.attribution import CgroupReadings, ProcessIdentity
from helpers.domain.telemetry.cgroup_paths import parse_cgroup
from helpers.domain.telemetry.reading import (
    DeviceReading,
    Fault,
    Gpu,
    GpuReading,
    MemoryReading,
    TelemetryError,
)

GIB = 1024**3
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESOURCE = "viktorbarzin.me/gpumem"


def uid(number: int) -> str:
    """A pod's uid."""
    return f"{number:08x}-1111-4222-8333-444444444444"


def container_id(number: int) -> str:
    """A container's id, 64 hex digits as runtimes make them."""
    return f"{number:064x}"


def cgroup_v2(number: int) -> str:
    """The cgroup file of a process in pod `number`: systemd driver, containerd, cgroup v2."""
    slice_name = uid(number).replace("-", "_")
    return (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice_name}.slice/"
        f"cri-containerd-{container_id(number)}.scope\n"
    )


def pod(number: int, *, limit: str | None = None, env: Sequence[str] = (), namespace: str = "ns") -> dict[str, Any]:
    """Pod `pod-<number>` with one running container `main`."""
    container: dict[str, Any] = {"name": "main", "env": [{"name": name, "value": "1"} for name in env]}
    if limit is not None:
        container["resources"] = {"limits": {RESOURCE: limit}}
    status = {"name": "main", "containerID": f"containerd://{container_id(number)}"}
    return {
        "metadata": {"namespace": namespace, "name": f"pod-{number}", "uid": uid(number)},
        "spec": {"containers": [container]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def process(pid: int, cgroup: str, comm: str = "python3") -> ProcessIdentity:
    """A process with that cgroup file."""
    return ProcessIdentity(pid, comm, parse_cgroup(cgroup))


def reading(
    index: int, processes: Mapping[int, int] | None, *, used: int = 10 * GIB, fault: Fault | None = None
) -> GpuReading:
    """Card `index` of 16 GiB; `processes` is `{pid: bytes}`."""
    gpu = Gpu(index, f"GPU-{index}", "Fake")
    memory = MemoryReading(16 * GIB, used, 16 * GIB - used, 0)
    return GpuReading(gpu, (DeviceReading(gpu, NOW, 1000.0, memory, processes, fault),))


@dataclass
class FakeDevices:
    """`ports.telemetry.Devices`: answers `rounds` one after the other, the last one for ever."""

    rounds: list[tuple[GpuReading, ...] | Fault]
    again: dict[int, GpuReading] = field(default_factory=dict)
    cgroups: CgroupReadings = field(default_factory=CgroupReadings)
    asked_again: list[int] = field(default_factory=list)

    def read(self) -> tuple[GpuReading, ...]:
        now = self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        if isinstance(now, Fault):
            raise TelemetryError(now)
        return now

    def read_again(self, index: int) -> GpuReading:
        self.asked_again.append(index)
        return self.again[index]

    def cgroup_readings(self, gpu: Gpu, paths: Sequence[str]) -> CgroupReadings:
        return self.cgroups

    def xid_counts(self) -> Mapping[tuple[Gpu, int], int]:
        return {}

    def driver_version(self) -> str:
        return "595.91.07"

    def close(self) -> None:
        pass


@dataclass
class FakeProcesses:
    """`ports.telemetry.Processes`."""

    known: dict[int, ProcessIdentity] = field(default_factory=dict)
    host_pids: bool = True
    unreadable: Fault | None = None

    def shows_host_pids(self) -> bool:
        return self.host_pids

    def look_up(self, pids: Mapping[int, float]) -> dict[int, ProcessIdentity]:
        if self.unreadable is not None:
            raise TelemetryError(self.unreadable)
        return {pid: self.known[pid] for pid in pids if pid in self.known}

    def forget_others(self, pids: Collection[int]) -> None:
        pass


@dataclass
class FakePods:
    """`ports.telemetry.PodList`; None: nobody answers."""

    items: list[dict[str, Any]] | None
    calls: int = 0

    def pods(self) -> list[dict[str, Any]]:
        self.calls += 1
        if self.items is None:
            raise DependencyError("GET https://api/api/v1/pods: refused")
        return self.items


@dataclass
class FakeLog:
    """`ports.log.Log` that keeps `(level, event, fields)`."""

    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))

    def events(self) -> list[str]:
        """The events in order."""
        return [event for _, event, _ in self.lines]


@dataclass
class FakeClock:
    """`ports.clock.Clock` that a test moves."""

    seconds: float = 0.0

    def now_at(self) -> datetime:
        return NOW

    def monotonic_seconds(self) -> float:
        return self.seconds

    def sleep_seconds(self, seconds: float) -> None:
        self.seconds += seconds
