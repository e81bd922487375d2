"""What is measured on a GPU, and how a measurement can fail.

Measured amounts stay in bytes from the driver to the metric: rounding each process up to MiB would
make the pods of a card add up to more than the card's own figure. Whoever decides on budgets turns
them into MiB with `domain.memory.bytes_to_mib_rounded_up`.

A figure that could not be read is None, and the sample it belongs to carries a `Fault`. It is never
0: an empty answer once read as "all memory is free".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from helpers.domain.errors import DependencyError


class Failure(StrEnum):
    """Why a sample is not whole; the values are a metric's label, so the set is closed."""

    HUNG = "hung"
    DRIVER = "driver"
    GPU_LOST = "gpu_lost"
    NO_PERMISSION = "no_permission"
    NOT_SUPPORTED = "not_supported"
    NVML_ERROR = "nvml_error"
    MEMORY_UNKNOWN = "memory_unknown"
    PROCESS_MEMORY_UNKNOWN = "process_memory_unknown"
    HOST_PIDS_INVISIBLE = "host_pids_invisible"
    PROC_UNREADABLE = "proc_unreadable"
    PODS_UNKNOWN = "pods_unknown"
    STALE = "stale"
    DCGM_UNREACHABLE = "dcgm_unreachable"
    DCGM_NO_PER_POD_SERIES = "dcgm_no_per_pod_series"
    DCGM_VALUES_REPEATED = "dcgm_values_repeated"


class Refusal(StrEnum):
    """Why the driver's per-cgroup reading (r615) of a container is not used; a closed label set."""

    CGROUP_V1 = "cgroup_v1"
    CGROUP_PATH_RELATIVE = "cgroup_path_relative"
    MIG = "mig"
    HALF_SET = "half_set"
    LIMIT_NOT_APPLIED = "limit_not_applied"
    LIMITS_INCONSISTENT = "limits_inconsistent"
    READING_ZERO = "reading_zero_with_processes"
    NVML_ERROR = "nvml_error"


class TelemetryError(DependencyError):
    """The source of all samples cannot be asked at all; the next try may succeed."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.detail)


class RestartNeeded(DependencyError):
    """This process can never succeed again (its NVML library is older than the loaded driver)."""


@dataclass(frozen=True)
class Fault:
    """One reason, and what exactly was seen."""

    failure: Failure
    detail: str


@dataclass(frozen=True)
class Gpu:
    """A card, or one MIG device of it. `index` is the card's, `uuid` is unique.

    `mig_name` is what the driver calls a MIG device, its profile included; empty where it does not say it.
    """

    index: int
    uuid: str
    model: str = ""
    mig_number: int | None = None
    mig_name: str = ""

    @property
    def is_mig(self) -> bool:
        """Whether this is a MIG device."""
        return self.mig_number is not None

    @property
    def label(self) -> str:
        """`0`, or `0.1` for a MIG device: unique on the node, as a metric's label shows it."""
        return str(self.index) if self.mig_number is None else f"{self.index}.{self.mig_number}"


@dataclass(frozen=True)
class MemoryReading:
    """NVML's own figures. `used_bytes` is without the reserved part where `reserved_bytes` is known."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    reserved_bytes: int | None


@dataclass(frozen=True)
class Sensors:
    """What a card says besides memory; None where it does not say it."""

    utilization_ratio: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    ecc_corrected_count: int | None = None
    ecc_uncorrected_count: int | None = None


@dataclass(frozen=True)
class DeviceReading:
    """One device at one instant.

    `processes` is `{host pid: used bytes}` over all of the driver's lists, None where unknown.
    `listed_at_boot_seconds` is the machine's time since boot when the lists were read: a process
    that started later is another one with the same pid.
    """

    gpu: Gpu
    read_at: datetime
    listed_at_boot_seconds: float
    memory: MemoryReading | None = None
    processes: Mapping[int, int] | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class GpuReading:
    """One card: its sensors, and its devices (itself, or its MIG devices)."""

    gpu: Gpu
    devices: tuple[DeviceReading, ...] = ()
    sensors: Sensors = Sensors()
    fault: Fault | None = None


@dataclass(frozen=True)
class CgroupReading:
    """The driver's own account of one cgroup on one device (r615). A hard limit of None is no limit."""

    soft_limit_bytes: int
    hard_limit_bytes: int | None
    used_bytes: int


@dataclass(frozen=True)
class TenantUse:
    """What one container uses on one device; `pod` is empty for a process outside Kubernetes."""

    namespace: str
    pod: str
    container: str
    used_bytes: int
    cgroup: CgroupReading | None = None


@dataclass(frozen=True)
class Attribution:
    """Who uses a device's memory. Counts of processes that no tenant owns go by reason."""

    uses: tuple[TenantUse, ...]
    unattributed_bytes: int
    unattributed_processes: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[Refusal, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceSample:
    """A device's sample as it is served. It is whole (`up`) only without a fault.

    A fault may leave `memory` readable: the card's figures are then served for alerts, the tenants'
    are not, and enforcement must not act on it.
    """

    gpu: Gpu
    sampled_at: datetime
    memory: MemoryReading | None = None
    attribution: Attribution | None = None
    fault: Fault | None = None

    @property
    def up(self) -> bool:
        """Whether enforcement may rest on this sample."""
        return self.fault is None


@dataclass(frozen=True)
class Budget:
    """What one container of a pod declares, MiB."""

    namespace: str
    pod: str
    container: str
    budget_mib: int


@dataclass(frozen=True)
class Snapshot:
    """Everything one round of sampling found.

    `xid_counts` is `{(gpu, xid code): events seen by this process}`; `failure_counts` is
    `{(gpu index as text, failure): samples}` since this process started, the index empty where the
    source of all samples failed. `pods_up` is None where no pods are asked for.
    """

    at: datetime
    devices: tuple[DeviceSample, ...] = ()
    sensors: tuple[tuple[Gpu, Sensors], ...] = ()
    xid_counts: Mapping[tuple[Gpu, int], int] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    unreadable_budget_count: int = 0
    source_up: bool = False
    source_fault: Fault | None = None
    driver_version: str = ""
    pods_up: bool | None = None
    pods_at: datetime | None = None
    failure_counts: Mapping[tuple[str, Failure], int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether there is at least one device and every sample of it can be rested on."""
        return self.source_up and bool(self.devices) and all(sample.up for sample in self.devices)
