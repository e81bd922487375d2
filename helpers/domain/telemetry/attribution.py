"""From a device's processes to tenants: pure, from readings that are already there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from helpers.domain.telemetry.cgroup_paths import CgroupMembership, CgroupPlace
from helpers.domain.telemetry.pod_directory import ContainerRef, PodDirectory
from helpers.domain.telemetry.reading import Attribution, CgroupReading, DeviceReading, Refusal, TenantUse

NO_POD = "no_pod"
UNKNOWN_POD = "unknown_pod"
INVISIBLE = "invisible"
_BOTH_VARIABLES = 2


@dataclass(frozen=True)
class ProcessIdentity:
    """A process as the host's proc tree shows it. `comm` is its name, at most 15 characters."""

    pid: int
    comm: str
    membership: CgroupMembership


@dataclass(frozen=True)
class ProcessTenant:
    """A tenant outside Kubernetes: processes of a systemd `unit`, or with exactly this `comm`.

    A unit is the better choice: it covers children that run under another name.
    """

    name: str
    unit: str = ""
    comm: str = ""

    def owns(self, process: ProcessIdentity) -> bool:
        """Whether `process` is this tenant's."""
        by_unit = bool(self.unit) and process.membership.unit == self.unit
        return by_unit or (bool(self.comm) and process.comm == self.comm)


@dataclass
class _Tally:
    """One tenant's processes on one device while they are being added up."""

    owner: ContainerRef
    used_bytes: int = 0
    place: CgroupPlace | None = None
    is_v2: bool = False


@dataclass(frozen=True)
class CgroupReadings:
    """What the driver answered for container cgroups on one device: a reading or a refusal by path.

    `supported` is False where the driver has no such call (older than r615): then nothing is refused,
    because nothing was offered.
    """

    supported: bool = False
    by_path: Mapping[str, CgroupReading | Refusal] = field(default_factory=dict)


def unknown_pods(
    device: DeviceReading, processes: Mapping[int, ProcessIdentity], directory: PodDirectory
) -> list[CgroupPlace]:
    """Places of this device's processes that are in a pod which `directory` does not know.

    A pod that is known while its container is not counts as well: the list is older than the container.
    """
    places = []
    for pid in device.processes or ():
        candidates = processes[pid].membership.places if pid in processes else ()
        found = directory.find(candidates)
        if candidates and (found is None or not found[1].container):
            places.append(candidates[0])
    return places


def attribute(
    device: DeviceReading,
    processes: Mapping[int, ProcessIdentity],
    directory: PodDirectory,
    tenants: Sequence[ProcessTenant] = (),
    readings: CgroupReadings | None = None,
) -> Attribution:
    """Who uses `device`'s memory.

    Args:
        device: A reading with memory and processes.
        processes: What is known of the pids; one that is absent is counted as `invisible`.
        directory: The node's pods.
        tenants: Tenants outside Kubernetes, first match wins; asked only for processes in no pod.
        readings: The driver's per-cgroup account, where it has one.
    """
    tallies, ownerless = _tally(device, processes, directory, tenants)
    uses: list[TenantUse] = []
    refusals: dict[Refusal, int] = {}
    for tally in tallies.values():
        reading = _cgroup_reading(tally, device.gpu.is_mig, readings or CgroupReadings())
        if isinstance(reading, Refusal):
            refusals[reading] = refusals.get(reading, 0) + 1
            reading = None
        used = reading.used_bytes if reading is not None else tally.used_bytes
        uses.append(TenantUse(tally.owner.namespace, tally.owner.pod, tally.owner.container, used, reading))
    uses.sort(key=lambda use: (use.namespace, use.pod, use.container))
    device_used = device.memory.used_bytes if device.memory is not None else 0
    # Lists and totals are read one after the other, so a process that grows between them can make the
    # sum the larger one; what is left over is then nothing, not a negative amount.
    rest = max(0, device_used - sum(use.used_bytes for use in uses))
    return Attribution(tuple(uses), rest, ownerless, refusals)


def container_places(
    device: DeviceReading, processes: Mapping[int, ProcessIdentity], directory: PodDirectory
) -> tuple[str, ...]:
    """Paths of this device's container cgroups that the driver can be asked about (v2, whole paths)."""
    tallies, _ = _tally(device, processes, directory, ())
    paths = {
        tally.place.path
        for tally in tallies.values()
        if tally.place is not None and tally.is_v2 and "/.." not in tally.place.path and tally.place.container_id
    }
    return tuple(sorted(paths))


def _tally(
    device: DeviceReading,
    processes: Mapping[int, ProcessIdentity],
    directory: PodDirectory,
    tenants: Sequence[ProcessTenant],
) -> tuple[dict[tuple[str, str, str], _Tally], dict[str, int]]:
    tallies: dict[tuple[str, str, str], _Tally] = {}
    ownerless: dict[str, int] = {}
    for pid, used_bytes in (device.processes or {}).items():
        process = processes.get(pid)
        owner = _owner(process, directory, tenants)
        if isinstance(owner, str):
            ownerless[owner] = ownerless.get(owner, 0) + 1
            continue
        place, ref = owner
        tally = tallies.setdefault((ref.namespace, ref.pod, ref.container), _Tally(ref))
        tally.used_bytes += used_bytes
        tally.place = tally.place or place
        tally.is_v2 = process is not None and process.membership.is_v2
    return tallies, ownerless


def _owner(
    process: ProcessIdentity | None, directory: PodDirectory, tenants: Sequence[ProcessTenant]
) -> tuple[CgroupPlace | None, ContainerRef] | str:
    if process is None:
        return INVISIBLE
    found = directory.find(process.membership.places)
    if found is not None:
        return found
    tenant = next((one for one in tenants if one.owns(process)), None)
    if tenant is not None:
        return None, ContainerRef("", "", tenant.name)
    return UNKNOWN_POD if process.membership.places else NO_POD


def _cgroup_reading(tally: _Tally, is_mig: bool, readings: CgroupReadings) -> CgroupReading | Refusal | None:
    """The reading to use for a container, why it is refused, or None where there is nothing to say.

    Half-set limits do nothing and say nothing, so each half is looked for: one of the hook's two
    variables, variables whose limit the driver does not have, a meter that stands at 0 while
    processes of the cgroup hold memory.
    """
    if not readings.supported or tally.place is None:
        return None
    early = _refusal_without_reading(tally, is_mig)
    if early is not None:
        return early
    reading = readings.by_path.get(tally.place.path, Refusal.NVML_ERROR)
    if isinstance(reading, Refusal):
        return reading
    if reading.hard_limit_bytes is None and reading.soft_limit_bytes == 0:
        wanted = tally.owner.limit_variables == _BOTH_VARIABLES
        # No limit was asked for: the meter's state is undocumented then, so the process lists stay the measure.
        return Refusal.LIMIT_NOT_APPLIED if wanted else None
    if reading.hard_limit_bytes is not None and reading.soft_limit_bytes > reading.hard_limit_bytes:
        return Refusal.LIMITS_INCONSISTENT
    if reading.used_bytes == 0 and tally.used_bytes > 0:
        return Refusal.READING_ZERO
    return reading


def _refusal_without_reading(tally: _Tally, is_mig: bool) -> Refusal | None:
    if 0 < tally.owner.limit_variables < _BOTH_VARIABLES:
        return Refusal.HALF_SET
    asked = tally.owner.limit_variables == _BOTH_VARIABLES
    if is_mig:
        return Refusal.MIG if asked else None
    if not tally.is_v2:
        return Refusal.CGROUP_V1 if asked else None
    if tally.place is None or "/.." in tally.place.path or not tally.place.container_id:
        return Refusal.CGROUP_PATH_RELATIVE
    return None
