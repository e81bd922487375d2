"""What a real kubelet leaves on a machine, and taking all of it away again.

Containers live on when everything above them is killed, and mounts lie where folders are to be
removed: the order here is processes, mounts, cgroups, network, folders.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab import processes
from lab.errors import LabError
from lab.real_kubelet.network import remove_bridge

# A place of root's own: no other user can put anything there first.
FOLDER = Path("/var/lib/gpumem-lab-kubelet")
NOTE = FOLDER / "footprint.json"
PODS_CGROUP = "kubepods"
# Programs of a node have these compiled in, whatever folder they are told.
KUBELET_PATH = "/var/lib/kubelet"
# Where pods that tell the container runtime about devices mount it.
CDI_PATH = "/var/run/cdi"
FIXED_PATHS = (KUBELET_PATH, CDI_PATH, "/run/containerd", "/var/lib/cni", "/var/log/containers", "/var/log/pods")
# Where mount(8), which the kubelet calls, keeps notes for whoever else calls it: only removed empty.
SHARED_PATH = Path("/run/mount")
# A kubelet sets these for the whole machine (setupKernelTunables), and never back.
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
SYSCTL = Path("/proc/sys")
BOUND_SECONDS = 20.0
_MNT_DETACH = 2


@contextlib.contextmanager
def footprint() -> Iterator[Path]:
    """The node's own folder; everything that its programs made is gone when the block ends, also after a failure.

    Raises:
        LabError: Another one is at work on this machine, or something could not be removed.
    """
    with _locked():
        _clear()
        FOLDER.mkdir(mode=0o755)
        NOTE.write_text(json.dumps(_before()))
        try:
            yield FOLDER
        finally:
            _clear()


def clear_leftover() -> None:
    """Undoes what a run that was killed left behind; does nothing where there is nothing.

    Raises:
        LabError: Another run is at work, or something could not be removed.
    """
    if FOLDER.exists():
        with _locked():
            _clear()


def cgroup_roots() -> list[Path]:
    """Where each cgroup hierarchy is mounted, of version 1 and 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    # The folder above is what is locked: a file for it would be one more thing to leave behind.
    descriptor = os.open(FOLDER.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another lab has a real kubelet on this machine ({FOLDER}): wait for its end") from error
        yield
    finally:
        os.close(descriptor)


def _clear() -> None:
    if not NOTE.is_file():  # nothing was started: the note is written first
        shutil.rmtree(FOLDER, ignore_errors=True)
        return
    before = json.loads(NOTE.read_text())
    ours = [Path(path) for path in before["absent"]]
    _until("processes of the node still run", _kill)
    places = [FOLDER, *ours]
    _until("there are mounts left in the node's folders", lambda: _unmount(places))
    _until(f"{PODS_CGROUP} cgroups cannot be removed", _remove_cgroups)
    remove_bridge()
    for setting, value in before["kernel"].items():
        if (SYSCTL / setting).read_text() != value:
            (SYSCTL / setting).write_text(value)
    for place in [*ours, FOLDER]:  # the note last
        if place == SHARED_PATH:
            with contextlib.suppress(OSError):
                place.rmdir()
        else:
            shutil.rmtree(place, ignore_errors=True)


def _before() -> dict[str, Any]:
    """How the machine is found: only what was not there is ours to remove."""
    absent = [path for path in (*FIXED_PATHS, str(SHARED_PATH)) if not Path(path).exists()]
    there = [setting for setting in KERNEL_SETTINGS if (SYSCTL / setting).is_file()]
    return {"absent": absent, "kernel": {setting: (SYSCTL / setting).read_text() for setting in there}}


def _until(failure: str, gone: Callable[[], bool]) -> None:
    """Repeats `gone` until it is true: what a killed process held is freed a moment later."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not gone():
        if time.monotonic() > deadline:
            raise LabError(f"{failure} after {BOUND_SECONDS:.0f} s: remove them by hand, then {FOLDER}")
        time.sleep(0.05)


def _kill() -> bool:
    """Kills the node's programs and then all containers; True once none is left."""
    # A lab's mark and the folder in its command line: no containerd or kubelet of anybody else has both.
    pids = [pid for pid, _ in processes.marked() if str(FOLDER) in _command(pid)]
    pids = pids or [int(pid) for group in _cgroups() for pid in _members(group)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not pids


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def _cgroups() -> list[Path]:
    """Every cgroup of a pod, the deepest first."""
    tops = [root / PODS_CGROUP for root in cgroup_roots()]
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top, topdown=False)]


def _members(group: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (group / "cgroup.procs").read_text().split()
    return []


def _remove_cgroups() -> bool:
    for group in _cgroups():
        with contextlib.suppress(OSError):  # busy for as long as a member is being torn down
            group.rmdir()
    return not _cgroups()


def _unmount(places: list[Path]) -> bool:
    """Removing a folder with a mount in it would remove what is mounted there."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    inside = [point for point in points if any(point.is_relative_to(place) for place in places)]
    libc = ctypes.CDLL(None, use_errno=True)
    for point in reversed(inside):  # later mounts lie on earlier ones
        libc.umount2(os.fsencode(point), _MNT_DETACH)
    return not inside
