"""Processes of the host from its proc tree, read only (proc(5): `<pid>/stat`, `<pid>/cgroup`)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.domain.telemetry.attribution import ProcessIdentity
from helpers.domain.telemetry.cgroup_paths import CgroupMembership, parse_cgroup
from helpers.domain.telemetry.reading import Failure, Fault, TelemetryError

_START_TIME_FIELD = 22
_FIRST_FIELD_AFTER_COMM = 3
# Where kubelets put pods: both drivers, the three classes of service (guaranteed has no level of its own).
_POD_PARENTS = (
    "kubepods.slice",
    "kubepods.slice/kubepods-burstable.slice",
    "kubepods.slice/kubepods-besteffort.slice",
    "kubepods",
    "kubepods/burstable",
    "kubepods/besteffort",
)
_READ_BYTES = 64 * 1024
# Start times are given in ticks and the clock in nanoseconds; a process may seem younger by one tick.
_TICK_SLACK = 1


@dataclass(frozen=True)
class _Remembered:
    started_ticks: int
    identity: ProcessIdentity


class HostProc:
    """`ports.telemetry.Processes`.

    Args:
        root: `/proc`, or where the host's is mounted.
        cgroups: Where the host's cgroup v2 hierarchy is mounted here; only there can a path that a
            private cgroup namespace shows relative to its reader be made whole. None: nowhere.
    """

    def __init__(self, root: Path, cgroups: Path | None = None) -> None:
        self._root = str(root)
        self._cgroups = cgroups
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._remembered: dict[int, _Remembered] = {}

    def shows_host_pids(self) -> bool:
        """Whether this is the first pid namespace: only there pid 2 is the kernel's thread daemon."""
        try:
            return self._read("2/comm").strip() == b"kthreadd"
        except OSError:
            return False

    def look_up(self, pids: Mapping[int, float]) -> dict[int, ProcessIdentity]:
        """What is known of `{pid: seconds since boot when it was listed}`; one that ended is absent.

        A pid whose process started after it was listed was given to another process meanwhile, so the
        listed one ended.

        Raises:
            TelemetryError: The tree cannot be read.
        """
        found = {}
        for pid, listed_at_boot_seconds in pids.items():
            identity = self._one(pid, listed_at_boot_seconds)
            if identity is not None:
                found[pid] = identity
        return found

    def forget_others(self, pids: Collection[int]) -> None:
        """Drops what is remembered of any pid but these."""
        for pid in self._remembered.keys() - set(pids):
            del self._remembered[pid]

    def _one(self, pid: int, listed_at_boot_seconds: float) -> ProcessIdentity | None:
        try:
            comm, started_ticks = self._stat(pid)
            if started_ticks > listed_at_boot_seconds * self._ticks_per_second + _TICK_SLACK:
                return None
            known = self._remembered.get(pid)
            # The name is compared too: exec keeps pid and start time.
            if known is not None and (known.started_ticks, known.identity.comm) == (started_ticks, comm):
                return known.identity
            membership = self._whole(parse_cgroup(self._read(f"{pid}/cgroup").decode(errors="replace")))
            if self._stat(pid)[1] != started_ticks:  # the pid changed hands between the two files
                return None
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError as error:
            raise TelemetryError(self._unreadable(pid, error)) from error
        identity = ProcessIdentity(pid, comm, membership)
        if membership.places:  # a process outside any pod may still be moved into one by its runtime
            self._remembered[pid] = _Remembered(started_ticks, identity)
        return identity

    def _whole(self, membership: CgroupMembership) -> CgroupMembership:
        """`membership` with its relative paths made whole where the host's hierarchy shows them."""
        places = tuple(replace(place, path=self._absolute(place.path)) for place in membership.places)
        return replace(membership, places=places)

    def _absolute(self, path: str) -> str:
        if "/.." not in path or self._cgroups is None:
            return path
        own = "/".join(path.rsplit("/", 2)[-2:])  # the pod's cgroup and the container's below it
        for parent in _POD_PARENTS:
            if (self._cgroups / parent / own).is_dir():
                return f"/{parent}/{own}"
        return path

    def _stat(self, pid: int) -> tuple[str, int]:
        """The process' name and start time. The name may hold spaces and parentheses: the last `)` ends it."""
        content = self._read(f"{pid}/stat").decode(errors="replace")
        head, _, rest = content.rpartition(")")
        fields = rest.split()
        if len(fields) <= _START_TIME_FIELD - _FIRST_FIELD_AFTER_COMM:
            raise ProcessLookupError(f"{self._root}/{pid}/stat is empty")  # the process is being torn down
        return head.partition("(")[2], int(fields[_START_TIME_FIELD - _FIRST_FIELD_AFTER_COMM])

    def _read(self, name: str) -> bytes:
        # Plain descriptors: this runs for every process at every sample, and Path.read_text costs thrice as much.
        descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _READ_BYTES)
        finally:
            os.close(descriptor)

    def _unreadable(self, pid: int, error: OSError) -> Fault:
        return Fault(
            Failure.PROC_UNREADABLE,
            f"{self._root}/{pid} cannot be read ({error.strerror}): mount the host's proc tree there, readable",
        )
