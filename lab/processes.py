"""Starts, recognises and ends the lab's processes, and never anybody else's.

Every process carries ``GPUMEM_LAB_DIR=<its lab's folder>`` in its environment and is remembered with
its start time. A process id alone proves nothing: ids are used again. The mark also finds those that
were started just before a crash and never written down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

MARK = "GPUMEM_LAB_DIR"
KILL_BOUND_SECONDS = 10.0
PROC = Path("/proc")

# Popen objects of the processes that this interpreter started: it has to reap them when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class LabProcess:
    """A process of a lab: its role, id, start time in clock ticks since boot, and log file."""

    name: str
    pid: int
    started_ticks: int
    log: str


def start(
    name: str, command: Sequence[str], *, lab_dir: Path, log: Path, env: Mapping[str, str] | None = None
) -> LabProcess:
    """Starts a program that outlives this one, with its output in `log`.

    Raises:
        LabError: The program cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), MARK: str(lab_dir)},
                cwd=lab_dir,
                start_new_session=True,
            )
        except OSError as error:
            raise LabError(f"{name} ({command[0]}) cannot be started: {error}") from error
    _children[child.pid] = child
    return LabProcess(name, child.pid, _started_ticks(child.pid) or 0, str(log))


def alive(process: LabProcess) -> bool:
    """Whether exactly this process (not a later one with its id) still runs."""
    _reap(process.pid)
    return _started_ticks(process.pid) == process.started_ticks


def stop(processes: Iterable[LabProcess]) -> None:
    """Kills processes at once and waits until they are gone.

    The lab's state is thrown away with them, so nobody has anything to finish; a kubelet that is
    killed is also what a node's power loss looks like.
    """
    pids = [process.pid for process in processes if alive(process)]
    _kill(pids)


def end(process: LabProcess, bound_seconds: float = 10.0) -> None:
    """Asks a process to end and gives it time to (a helper gives its Lease up); then kills it."""
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + bound_seconds
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop([process])


def stop_marked(lab_dir: Path) -> int:
    """Kills every process that carries this lab's mark; returns how many there were."""
    pids = [pid for pid, folder in marked() if folder == str(lab_dir)]
    _kill(pids)
    return len(pids)


def marked() -> Iterator[tuple[int, str]]:
    """Process id and lab folder of every lab process that this user may see."""
    wanted = f"{MARK}=".encode()
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(wanted):
                    yield int(entry.name), os.fsdecode(variable[len(wanted) :])


def resident_mib(process: LabProcess) -> int:
    """Resident memory in MiB, rounded; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(process.pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024)
    return 0


def log_tail(process: LabProcess, lines: int = 15) -> str:
    """The last lines of a process's log, for an error message."""
    with contextlib.suppress(OSError):
        return "\n".join(Path(process.log).read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"


def _started_ticks(pid: int) -> int | None:
    """Start time of a running process in ticks since boot (proc(5), stat field 22); None if it ended."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command in parentheses may itself hold spaces and parentheses: fields count from the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            raise LabError(
                f"process {pid} of the lab belongs to another user: take the lab down as that user"
            ) from error
    deadline = time.monotonic() + KILL_BOUND_SECONDS
    for pid in pids:
        while not _has_gone(pid):
            if time.monotonic() > deadline:
                raise LabError(f"process {pid} of the lab did not end {KILL_BOUND_SECONDS:.0f} s after SIGKILL")
            time.sleep(0.01)


def _has_gone(pid: int) -> bool:
    """Whether nothing of a killed process holds a file or port any more.

    The first thread is a zombie as soon as it has ended, while others may still be ending.
    """
    _reap(pid)
    if _started_ticks(pid) is not None:
        return False
    try:
        return len(list((PROC / str(pid) / "task").iterdir())) <= 1
    except OSError:
        return True


def _reap(pid: int) -> None:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
