"""A host's proc tree for simulated processes: the files that attribution reads, as proc(5) gives them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_KERNEL_THREADS_PID = 2


@dataclass(frozen=True)
class HostProcess:
    """A process. `cgroup` is the file's whole text; `started_ticks` counts from boot."""

    pid: int
    cgroup: str
    comm: str = "python3"
    started_ticks: int = 100


def containerd_systemd(pod_uid: str, container_id: str, qos: str = "burstable") -> str:
    """The cgroup v2 file of a container process under containerd with the systemd driver."""
    level = f"/kubepods-{qos}.slice/kubepods-{qos}" if qos else "/kubepods"
    slice_name = pod_uid.replace("-", "_")
    return f"0::/kubepods.slice{level}-pod{slice_name}.slice/cri-containerd-{container_id}.scope\n"


class HostProcTree:
    """Writes a tree under `root`; what is not among the processes any more is removed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, processes: Iterable[HostProcess]) -> None:
        """Makes the tree show exactly `processes`, and that its pids are the host's own."""
        self._root.mkdir(parents=True, exist_ok=True)
        wanted = {one.pid: one for one in processes}
        kernel = HostProcess(_KERNEL_THREADS_PID, "0::/\n", comm="kthreadd", started_ticks=0)
        for one in (kernel, *wanted.values()):
            self._write_one(one)
        for entry in self._root.iterdir():
            if entry.name.isdigit() and int(entry.name) not in {*wanted, _KERNEL_THREADS_PID}:
                shutil.rmtree(entry)

    def _write_one(self, process: HostProcess) -> None:
        folder = self._root / str(process.pid)
        folder.mkdir(exist_ok=True)
        # Fields 3 to 52 of proc_pid_stat(5); only field 22, the start time, is looked at.
        fields = ["S", *["0"] * 18, str(process.started_ticks), *["0"] * 30]
        _replace(folder / "cgroup", process.cgroup)
        _replace(folder / "comm", f"{process.comm}\n")
        _replace(folder / "stat", f"{process.pid} ({process.comm}) {' '.join(fields)}\n")


def _replace(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text)
    scratch.replace(path)
