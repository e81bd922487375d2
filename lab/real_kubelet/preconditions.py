"""Whether this machine can run a real kubelet, asked before anything is changed."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from pathlib import Path

from helpers.adapters.proc_cgroup import HostProc
from lab.errors import LabError
from lab.real_kubelet.footprint import FOLDER, KUBELET_PATH, cgroup_roots, clear_leftover
from lab.real_kubelet.images import visible_folders
from lab.real_kubelet.network import BRIDGE, GATEWAY, SERVICE_ADDRESS
from lab.real_kubelet.software import Software, find_software

PODS_CGROUP = "kubepods"
LEAST_FREE_BYTES = 1 << 30
# A control plane, containerd and a kubelet watch files; without an instance left a kubelet ends as it starts.
LEAST_INOTIFY_COUNT = 40


def why_not() -> str | None:
    """Why no real kubelet can run here; None where it can. What a killed run left behind is undone first."""
    if os.geteuid() != 0:
        return "a real kubelet needs root"
    try:
        clear_leftover()
    except LabError as error:
        return str(error)
    found = find_software()
    if not isinstance(found, Software):
        return f"real containers need containerd, runc, CNI plugins and busybox: {found.reason}"
    return _occupied() or _cgroups() or _visible() or _inotify()


def _occupied() -> str | None:
    """A machine that has a kubelet keeps it for itself."""
    if Path(KUBELET_PATH).exists():
        return f"{KUBELET_PATH} is there: this machine has, or had, a kubelet of its own"
    if any((root / PODS_CGROUP).exists() for root in cgroup_roots()):
        return f"there are {PODS_CGROUP} cgroups: this machine runs pods of its own"
    if Path("/sys/class/net", BRIDGE).exists() or any(map(_is_local, (GATEWAY, SERVICE_ADDRESS))):
        return f"network device {BRIDGE} or one of its addresses {GATEWAY} and {SERVICE_ADDRESS} is in use here"
    free = os.statvfs(FOLDER.parent)
    if free.f_bavail * free.f_frsize < LEAST_FREE_BYTES:  # below it the kubelet evicts pods for want of disk
        return f"{FOLDER.parent} has less than {LEAST_FREE_BYTES >> 20} MiB free"
    return None


def _cgroups() -> str | None:
    roots = cgroup_roots()
    if not roots:
        return "no cgroup hierarchy is mounted"
    for root in roots:
        probe = root / f"gpumem-probe-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return f"cgroups cannot be made in {root}: {error.strerror}"
    if not HostProc(Path("/proc")).shows_host_pids():
        return "/proc does not show the host's process ids, by which a driver names processes"
    return None


def _visible() -> str | None:
    """Helper pods run this Python, mounted, and as nobody in particular."""
    for folder in visible_folders():
        wanted = stat.S_IROTH | stat.S_IXOTH
        if Path(folder).stat().st_mode & wanted != wanted:
            return f"{folder} cannot be read by others, and pods do not run as root"
    return None


def _inotify() -> str | None:
    """Users have few of them (fs.inotify.max_user_instances), and other labs on this machine may hold them."""
    free = inotify_room(LEAST_INOTIFY_COUNT)
    if free < LEAST_INOTIFY_COUNT:
        wanted = f"a lab with a kubelet takes up to {LEAST_INOTIFY_COUNT}"
        return f"only {free} inotify instances are free for this user, and {wanted}"
    return None


def inotify_room(most_count: int) -> int:
    """How many inotify instances can be had now, counted up to `most_count`; none is kept."""
    libc = ctypes.CDLL(None)
    taken: list[int] = []
    try:
        while len(taken) < most_count and (descriptor := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
            taken.append(descriptor)
        return len(taken)
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _is_local(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
