"""One round of sampling: devices, then whose the processes are, then a snapshot to serve.

A round never raises for what can happen on a machine; what failed is in the snapshot, with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from helpers.domain.telemetry.attribution import (
    ProcessIdentity,
    ProcessTenant,
    attribute,
    container_places,
    unknown_pods,
)
from helpers.domain.telemetry.cgroup_paths import CgroupPlace
from helpers.domain.telemetry.pod_directory import PodDirectory
from helpers.domain.telemetry.reading import (
    Budget,
    DeviceReading,
    DeviceSample,
    Failure,
    Fault,
    Gpu,
    GpuReading,
    Sensors,
    Snapshot,
    TelemetryError,
)
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.ports.telemetry import Devices, Processes
from helpers.services.pod_cache import PodCache, PodState

# How long a sample waits for the pods of processes that it has not seen before.
_POD_WAIT_SECONDS = 0.5
# A place that a fresh list did not know is asked for again after this: a status may lag behind a container.
_ASK_AGAIN_SECONDS = 10.0


@dataclass(frozen=True)
class SampleRules:
    """What may be believed.

    `require_host_pids`: a proc tree that does not show the host's pids makes attribution unknown; off
    only where the driver and this process certainly share a pid namespace.
    `tenants` and `budgets` declare tenants outside Kubernetes.
    """

    require_host_pids: bool = True
    tenants: tuple[ProcessTenant, ...] = ()
    budgets: tuple[Budget, ...] = ()


class Sampler:
    """Makes snapshots. `pods` is None outside Kubernetes. Not for use by two threads at once."""

    def __init__(
        self,
        devices: Devices,
        processes: Processes,
        pods: PodCache | None,
        *,
        rules: SampleRules,
        clock: Clock,
        log: Log,
    ) -> None:
        self._devices = devices
        self._processes = processes
        self._pods = pods
        self._rules = rules
        self._clock = clock
        self._log = log
        self._known: dict[int, tuple[Gpu, ...]] = {}
        self._faults: dict[tuple[int, str], Fault] = {}
        self._failure_counts: dict[tuple[str, Failure], int] = {}
        self._asked_until: dict[CgroupPlace, float] = {}

    def sample(self) -> Snapshot:
        """One round.

        Raises:
            RestartNeeded: Only a new process can sample again.
        """
        at = self._clock.now_at()
        try:
            readings = self._devices.read()
        except TelemetryError as error:
            return self._source_down(error.fault)
        readings, processes, proc_fault = self._identified(readings)
        state = self._pod_state(readings, processes)
        samples: list[DeviceSample] = []
        for reading in readings:
            samples += self._samples(reading, processes, state, proc_fault)
        self._account(samples)
        return replace(
            self._around(state),
            at=at,
            devices=tuple(samples),
            sensors=tuple((one.gpu, one.sensors) for one in readings if one.sensors != Sensors()),
            xid_counts=self._devices.xid_counts(),
            source_up=True,
            driver_version=self._devices.driver_version(),
        )

    def _source_down(self, fault: Fault) -> Snapshot:
        at = self._clock.now_at()
        samples = [DeviceSample(gpu, at, fault=fault) for gpus in self._known.values() for gpu in gpus]
        self._account(samples)
        if not samples:
            self._count("", fault.failure)
            self._note((-1, ""), fault)
        state = self._pods.state() if self._pods is not None else None
        return replace(self._around(state), at=at, devices=tuple(samples), source_fault=fault)

    def _around(self, state: PodState | None) -> Snapshot:
        """The parts of a snapshot that do not come from the devices."""
        directory = state.directory if state is not None else None
        pod_budgets = directory.budgets if directory is not None else ()
        return Snapshot(
            at=self._clock.now_at(),
            budgets=(*self._rules.budgets, *pod_budgets),
            unreadable_budget_count=len(directory.unreadable) if directory is not None else 0,
            pods_up=state.up if state is not None else None,
            pods_at=state.read_at if state is not None else None,
            failure_counts=dict(self._failure_counts),
        )

    def _identified(
        self, readings: Sequence[GpuReading]
    ) -> tuple[tuple[GpuReading, ...], dict[int, ProcessIdentity], Fault | None]:
        """Who the processes are. A card whose process ended between two calls is read once more."""
        try:
            processes = self._processes.look_up(_pids(readings))
            current = tuple(
                self._devices.read_again(reading.gpu.index) if _ended(reading, processes) else reading
                for reading in readings
            )
            if any(new is not old for new, old in zip(current, readings, strict=True)):
                processes = self._processes.look_up(_pids(current))
        except TelemetryError as error:
            return tuple(readings), {}, error.fault
        self._processes.forget_others(processes)
        return current, processes, None

    def _pod_state(self, readings: Sequence[GpuReading], processes: Mapping[int, ProcessIdentity]) -> PodState | None:
        """The pods, read anew first where a process is in one that is not known."""
        if self._pods is None:
            return None
        state = self._pods.state()
        now = self._clock.monotonic_seconds()
        unknown = set(_unknown_places(readings, processes, state.directory or PodDirectory()))
        self._asked_until = {place: until for place, until in self._asked_until.items() if until > now}
        if unknown <= self._asked_until.keys() and state.directory is not None:
            return state
        state, fresh = self._pods.ask(_POD_WAIT_SECONDS)
        if fresh:
            still = _unknown_places(readings, processes, state.directory or PodDirectory())
            self._asked_until |= dict.fromkeys(still, now + _ASK_AGAIN_SECONDS)
        return state

    def _samples(
        self,
        reading: GpuReading,
        processes: Mapping[int, ProcessIdentity],
        state: PodState | None,
        proc_fault: Fault | None,
    ) -> list[DeviceSample]:
        if reading.fault is not None:
            gpus = self._known.get(reading.gpu.index) or (reading.gpu,)
            return [DeviceSample(gpu, self._clock.now_at(), fault=reading.fault) for gpu in gpus]
        self._known[reading.gpu.index] = tuple(device.gpu for device in reading.devices)
        return [self._sample(device, processes, state, proc_fault) for device in reading.devices]

    def _sample(
        self,
        device: DeviceReading,
        processes: Mapping[int, ProcessIdentity],
        state: PodState | None,
        proc_fault: Fault | None,
    ) -> DeviceSample:
        fault = device.fault or self._attribution_fault(device, processes, state, proc_fault)
        if fault is not None:
            return DeviceSample(device.gpu, device.read_at, device.memory, fault=fault)
        directory = (state.directory if state is not None else None) or PodDirectory()
        paths = container_places(device, processes, directory)
        readings = self._devices.cgroup_readings(device.gpu, paths) if paths else None
        found = attribute(device, processes, directory, self._rules.tenants, readings)
        return DeviceSample(device.gpu, device.read_at, device.memory, found)

    def _attribution_fault(
        self,
        device: DeviceReading,
        processes: Mapping[int, ProcessIdentity],
        state: PodState | None,
        proc_fault: Fault | None,
    ) -> Fault | None:
        """Why nobody can tell whose this device's memory is; a device without processes needs no telling."""
        if not device.processes:
            return None
        if proc_fault is not None:
            return proc_fault
        if self._rules.require_host_pids and not self._processes.shows_host_pids():
            return Fault(
                Failure.HOST_PIDS_INVISIBLE,
                "the proc tree does not show the host's pids, which NVML's are: set hostPID: true, "
                "or mount the host's /proc and name it",
            )
        return self._pods_fault(device, processes, state) if state is not None else None

    def _pods_fault(
        self, device: DeviceReading, processes: Mapping[int, ProcessIdentity], state: PodState
    ) -> Fault | None:
        if state.directory is None:
            return Fault(Failure.PODS_UNKNOWN, "the pods of this node could not be read yet")
        places = [
            place
            for place in unknown_pods(device, processes, state.directory)
            if state.directory.find([place]) is None and place not in self._asked_until
        ]
        if not places:
            return None
        where = places[0].pod_uid or places[0].container_id
        return Fault(Failure.PODS_UNKNOWN, f"pod {where} is not in the last list of pods, and no newer one was had")

    def _account(self, samples: Sequence[DeviceSample]) -> None:
        for sample in samples:
            if sample.fault is not None:
                self._count(sample.gpu.label, sample.fault.failure)
            self._note((sample.gpu.index, sample.gpu.uuid), sample.fault)

    def _count(self, gpu: str, failure: Failure) -> None:
        self._failure_counts[gpu, failure] = self._failure_counts.get((gpu, failure), 0) + 1

    def _note(self, key: tuple[int, str], fault: Fault | None) -> None:
        """Logs when a device's state changes, not at every sample."""
        before = self._faults.get(key)
        if fault is not None and (before is None or before.failure != fault.failure):
            self._log.warning("sample_failed", gpu=key[0], gpu_uuid=key[1], reason=fault.failure, detail=fault.detail)
        if fault is None and before is not None:
            self._log.info("sample_whole_again", gpu=key[0], gpu_uuid=key[1])
        if fault is None:
            self._faults.pop(key, None)
            self._faults.pop((-1, ""), None)
        else:
            self._faults[key] = fault


def _pids(readings: Sequence[GpuReading]) -> dict[int, float]:
    return {
        pid: device.listed_at_boot_seconds
        for reading in readings
        for device in reading.devices
        for pid in device.processes or ()
    }


def _ended(reading: GpuReading, processes: Mapping[int, ProcessIdentity]) -> bool:
    return any(pid not in processes for device in reading.devices for pid in device.processes or ())


def _unknown_places(
    readings: Sequence[GpuReading], processes: Mapping[int, ProcessIdentity], directory: PodDirectory
) -> list[CgroupPlace]:
    return [
        place
        for reading in readings
        for device in reading.devices
        for place in unknown_pods(device, processes, directory)
    ]
