"""What dcgm-exporter's metrics say about memory, where they can be believed.

The per-pod `DCGM_FI_DEV_FB_USED` is real only from tag 4.5.3-4.8.2, with KUBERNETES_VIRTUAL_GPUS and
hostPID: the device's own series then stays beside the pods', without a pod label. Before, or without
both settings, the device's value is repeated on every pod that shares it, which would make each
tenant the owner of the whole card. It counts compute processes only; graphics and encoders are
unattributed here. (dcgm-exporter: internal/pkg/transformation/process_metrics.go)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry.exposition import Row
from helpers.domain.telemetry.reading import (
    Attribution,
    DeviceSample,
    Failure,
    Fault,
    Gpu,
    MemoryReading,
    Sensors,
    TenantUse,
)

USED, FREE, RESERVED = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED"
_UTILIZATION, _TEMPERATURE, _POWER = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_POWER_USAGE"
_PERCENT = 100.0
# Device and processes are read one after the other; what grew between is no contradiction.
_TOLERANCE_MIB = 64
_REPAIR = (
    "dcgm-exporter 4.5.3-4.8.2 or newer with KUBERNETES_VIRTUAL_GPUS=true and hostPID: true is needed; "
    "or let this exporter read NVML itself (--source nvml)"
)


@dataclass(frozen=True)
class DcgmDevices:
    """Every card of a scrape."""

    samples: tuple[DeviceSample, ...]
    sensors: tuple[tuple[Gpu, Sensors], ...]


def read_dcgm(rows: Sequence[Row], sampled_at: datetime) -> DcgmDevices:
    """The samples in `rows`, whose figures are no newer than `sampled_at`."""
    by_uuid: dict[str, list[Row]] = {}
    for row in rows:
        if row.name.startswith("DCGM_") and row.labels.get("UUID"):
            by_uuid.setdefault(row.labels["UUID"], []).append(row)
    per_pod = any(row.name == USED and _pod(row) for row in rows)
    samples, sensors = [], []
    for uuid, own in sorted(by_uuid.items(), key=lambda item: (_index(item[1]), item[0])):
        gpu = Gpu(_index(own), uuid, own[0].labels.get("modelName", ""))
        samples.append(_sample(gpu, own, sampled_at, per_pod=per_pod))
        sensors.append((gpu, _sensors(own)))
    return DcgmDevices(tuple(samples), tuple(sensors))


def _sample(gpu: Gpu, rows: Sequence[Row], at: datetime, *, per_pod: bool) -> DeviceSample:
    if any(row.labels.get("GPU_I_ID") for row in rows):
        return _failed(gpu, at, Failure.NOT_SUPPORTED, "MIG devices are read from NVML only (--source nvml)")
    pods = [row for row in rows if row.name == USED and _pod(row)]
    used, free, reserved = (_device_value(rows, name) for name in (USED, FREE, RESERVED))
    if used is None and pods:
        why = f"{USED} has pod series but none of the device itself: its value is repeated on every pod. {_REPAIR}"
        return _failed(gpu, at, Failure.DCGM_VALUES_REPEATED, why)
    if used is None or free is None:
        return _failed(gpu, at, Failure.MEMORY_UNKNOWN, f"{USED} or {FREE} of the device is not there")
    memory = _memory_reading(used, free, reserved)
    if not per_pod:
        return _failed(gpu, at, Failure.DCGM_NO_PER_POD_SERIES, f"{USED} has no pod label anywhere. {_REPAIR}", memory)
    if sum(row.value for row in pods) > used + _TOLERANCE_MIB:
        why = f"the pods' {USED} add up to more than the device's: its value is repeated. {_REPAIR}"
        return _failed(gpu, at, Failure.DCGM_VALUES_REPEATED, why, memory)
    uses = _uses(pods)
    rest = max(0, memory.used_bytes - sum(use.used_bytes for use in uses))
    return DeviceSample(gpu, at, memory, Attribution(uses, rest))


def _failed(gpu: Gpu, at: datetime, failure: Failure, detail: str, memory: MemoryReading | None = None) -> DeviceSample:
    return DeviceSample(gpu, at, memory, fault=Fault(failure, detail))


def _memory_reading(used_mib: float, free_mib: float, reserved_mib: float | None) -> MemoryReading:
    used, free = mib_to_bytes(round(used_mib)), mib_to_bytes(round(free_mib))
    reserved = None if reserved_mib is None else mib_to_bytes(round(reserved_mib))
    return MemoryReading(used + free + (reserved or 0), used, free, reserved)


def _uses(pods: Sequence[Row]) -> tuple[TenantUse, ...]:
    """By name: a new pod of a StatefulSet may stand beside the old one, and both hold memory."""
    sums: dict[tuple[str, str, str], int] = {}
    for row in pods:
        key = (_label(row, "namespace"), _pod(row), _label(row, "container"))
        sums[key] = sums.get(key, 0) + mib_to_bytes(round(row.value))
    # A pod that shares the card without a process is listed with 0; NVML would not list it.
    return tuple(TenantUse(*key, used) for key, used in sorted(sums.items()) if used)


def _sensors(rows: Sequence[Row]) -> Sensors:
    load = _device_value(rows, _UTILIZATION)
    return Sensors(
        utilization_ratio=None if load is None else load / _PERCENT,
        temperature_celsius=_device_value(rows, _TEMPERATURE),
        power_watts=_device_value(rows, _POWER),
    )


def _device_value(rows: Sequence[Row], name: str) -> float | None:
    """The device's own figure. Only for memory must it be the unlabelled row: the others are copied to pods whole."""
    own = [row.value for row in rows if row.name == name and not _pod(row)]
    if own or name == USED:
        return own[0] if own else None
    return next((row.value for row in rows if row.name == name), None)


def _label(row: Row, name: str) -> str:
    # Behind a Prometheus without honorLabels the pod's own labels are called exported_*.
    return row.labels.get(f"exported_{name}") or row.labels.get(name, "")


def _pod(row: Row) -> str:
    return _label(row, "pod")


def _index(rows: Sequence[Row]) -> int:
    labels: Mapping[str, str] = rows[0].labels
    return int(labels["gpu"]) if labels.get("gpu", "").isdigit() else -1
