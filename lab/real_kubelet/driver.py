"""A stand-in driver whose processes are real: it names them by the host's ids, and forgets those that end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from helpers.domain.memory import BYTES_PER_MIB
from lab.errors import LabError
from lab.fake_nvml.state import FakeDriver, FakeGpu, FakeProcess
from lab.real_kubelet.images import DRIVER_STATE

PROC = Path("/proc")


@dataclass
class DriverOfProcesses:
    """One card. `held_mib` is `{process id: MiB}`; call `refresh` after a change and while waiting."""

    folder: Path
    uuid: str
    physical_mib: int
    reserved_mib: int
    model: str
    held_mib: dict[int, int] = field(default_factory=dict)

    def hold(self, container_id: str, mib: int) -> int:
        """Lets a container's first process hold that much memory; returns its process id on the host.

        Raises:
            LabError: No such container runs.
        """
        pid = first_process(container_id)
        self.held_mib[pid] = mib
        self.refresh()
        return pid

    def refresh(self) -> None:
        """Writes what the driver answers: a process that has ended holds nothing any more."""
        self.held_mib = {pid: mib for pid, mib in self.held_mib.items() if is_running(pid)}
        rows = tuple(FakeProcess(pid, mib * BYTES_PER_MIB) for pid, mib in sorted(self.held_mib.items()))
        card = FakeGpu(
            uuid=self.uuid,
            total_bytes=self.physical_mib * BYTES_PER_MIB,
            used_bytes=sum(self.held_mib.values()) * BYTES_PER_MIB,
            reserved_bytes=self.reserved_mib * BYTES_PER_MIB,
            model=self.model,
            processes=rows,
        )
        FakeDriver((card,)).write(self.folder / DRIVER_STATE)


def first_process(container_id: str) -> int:
    """The process id, on the host, of a container's first process.

    Args:
        container_id: As a pod's status gives it, with or without `containerd://`.

    Raises:
        LabError: No process of it runs.
    """
    wanted = container_id.rpartition("/")[2]
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and wanted in _cgroup(entry)]
    if not wanted or not pids:
        raise LabError(f"no process of container {container_id!r} runs on this machine")
    return min(pids, key=_started_ticks)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def _cgroup(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return (entry / "cgroup").read_text()
    return ""


def _started_ticks(pid: int) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]), pid
    return 2**62, pid
