"""`ports.telemetry.Devices` on NVML: one worker a card, one for the driver itself."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence

import pynvml

from helpers.adapters.nvml.library import fault_of, optional, read_cgroups, read_gpu
from helpers.adapters.nvml.workers import Hung, Pending, Worker
from helpers.adapters.nvml.xid_events import XidEvents
from helpers.domain.telemetry.attribution import CgroupReadings
from helpers.domain.telemetry.reading import Failure, Fault, Gpu, GpuReading, RestartNeeded, TelemetryError

# After these the library's own state is void, and only a fresh nvmlInit brings the cards back.
_STALE_HANDLES = (Failure.DRIVER, Failure.GPU_LOST)
_CLOSE_SECONDS = 1.0


class NvmlDevices:
    """The node's GPUs.

    Args:
        deadline_seconds: Longest wait for all cards of one `read` together.
        cgroup_root: Where the host's cgroup v2 hierarchy is, as the driver (not this process) sees it.
        reconnect_seconds: Least time between two fresh starts of the library because of lost cards.
    """

    def __init__(
        self, *, deadline_seconds: float, cgroup_root: str = "/sys/fs/cgroup", reconnect_seconds: float = 30.0
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._cgroup_root = cgroup_root
        self._reconnect_seconds = reconnect_seconds
        self._driver = Worker("nvml-driver")
        self._workers: dict[int, Worker] = {}
        self._known: dict[int, Gpu] = {}
        self._connected = False
        self._connected_at_seconds = 0.0
        self._driver_version = ""
        self._events = XidEvents()
        self._cgroup_support: dict[str, bool] = {}

    def read(self) -> tuple[GpuReading, ...]:
        """Every card. Raises TelemetryError where the driver cannot be asked, RestartNeeded where never again."""
        deadline = time.monotonic() + self._deadline_seconds
        count = self._count(deadline)
        pending = [
            (index, self._worker(index).submit(functools.partial(read_gpu, index, self._known.get(index))))
            for index in range(count)
        ]
        readings = tuple(self._collect(index, one, deadline) for index, one in pending)
        self._after(readings)
        return readings

    def read_again(self, index: int) -> GpuReading:
        """One card once more."""
        pending = self._worker(index).submit(functools.partial(read_gpu, index, self._known.get(index)))
        return self._collect(index, pending, time.monotonic() + self._deadline_seconds)

    def cgroup_readings(self, gpu: Gpu, paths: Sequence[str]) -> CgroupReadings:
        """The driver's account of cgroups on one device; a hung call leaves every path refused."""
        if self._cgroup_support.get(gpu.uuid) is False:
            return CgroupReadings()  # a driver does not learn the call while it is loaded
        pending = self._worker(gpu.index).submit(functools.partial(read_cgroups, gpu, self._cgroup_root, paths))
        try:
            readings = pending.result(time.monotonic() + self._deadline_seconds)
        except Hung:
            return CgroupReadings(supported=True)
        if paths:  # without a path nothing was asked, and nothing learnt
            self._cgroup_support[gpu.uuid] = readings.supported
        return readings

    def xid_counts(self) -> Mapping[tuple[Gpu, int], int]:
        """`{(gpu, xid code): events since start}`."""
        return self._events.counts()

    def driver_version(self) -> str:
        """The driver's version, empty where unknown."""
        return self._driver_version

    def close(self) -> None:
        """Gives the driver back, unless a call hangs in it: then the end of the process does."""
        if self._connected:
            self._disconnect(_CLOSE_SECONDS)

    def _count(self, deadline: float) -> int:
        try:
            if not self._connected:
                self._driver.submit(self._connect).result(deadline)
            return int(self._driver.submit(pynvml.nvmlDeviceGetCount).result(deadline))
        except Hung as hung:
            raise TelemetryError(Fault(Failure.HUNG, f"NVML: {hung}")) from hung
        except pynvml.NVMLError as error:
            self._connected = False
            if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
                raise RestartNeeded(
                    "the driver was replaced under this process, which still holds the old libnvidia-ml.so.1: "
                    "start it again"
                ) from error
            raise TelemetryError(fault_of(error, "NVML")) from error

    def _connect(self) -> None:
        pynvml.nvmlInit()
        self._connected, self._connected_at_seconds = True, time.monotonic()
        self._driver_version = str(optional(pynvml.nvmlSystemGetDriverVersion) or "")
        self._cgroup_support.clear()

    def _worker(self, index: int) -> Worker:
        if index not in self._workers:
            self._workers[index] = Worker(f"nvml-gpu-{index}")
        return self._workers[index]

    def _collect(self, index: int, pending: Pending[GpuReading], deadline: float) -> GpuReading:
        try:
            reading = pending.result(deadline)
        except Hung as hung:
            gpu = self._known.get(index, Gpu(index, ""))
            return GpuReading(gpu, fault=Fault(Failure.HUNG, f"GPU {index}: {hung}"))
        if reading.gpu.uuid:
            self._known[index] = reading.gpu
        return reading

    def _after(self, readings: Sequence[GpuReading]) -> None:
        if not self._events.listening and self._known:
            self._events.listen(list(self._known.values()))
        faults = [reading.fault for reading in readings] + [
            one.fault for reading in readings for one in reading.devices
        ]
        void = any(fault is not None and fault.failure in _STALE_HANDLES for fault in faults)
        rested = time.monotonic() - self._connected_at_seconds >= self._reconnect_seconds
        if void and rested:
            self._disconnect(self._deadline_seconds)

    def _disconnect(self, wait_seconds: float) -> None:
        # A shutdown while a call hangs would hang as well, and take the healthy cards with it.
        if self._any_stuck() or not self._events.stop():
            return
        with contextlib.suppress(Hung, pynvml.NVMLError):
            self._driver.submit(pynvml.nvmlShutdown).result(time.monotonic() + wait_seconds)
        self._connected = False

    def _any_stuck(self) -> bool:
        return self._driver.stuck or any(worker.stuck for worker in self._workers.values())
