"""Single NVML calls and what their errors mean (nvml.h, nvmlReturn_t)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import pynvml

from helpers.domain.telemetry.attribution import CgroupReadings
from helpers.domain.telemetry.reading import (
    CgroupReading,
    DeviceReading,
    Failure,
    Fault,
    Gpu,
    GpuReading,
    MemoryReading,
    Refusal,
    Sensors,
)

T = TypeVar("T")
Handle = Any

_ALL_ONES = 2**64 - 1
_MILLI = 1000.0
_PERCENT = 100.0
_NOT_THERE = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
_FAILURE_OF = {
    pynvml.NVML_ERROR_UNINITIALIZED: Failure.DRIVER,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Failure.DRIVER,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: Failure.DRIVER,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Failure.DRIVER,
    pynvml.NVML_ERROR_GPU_IS_LOST: Failure.GPU_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Failure.GPU_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: Failure.GPU_LOST,
    pynvml.NVML_ERROR_NO_PERMISSION: Failure.NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_SUPPORTED: Failure.NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Failure.NOT_SUPPORTED,
    pynvml.NVML_ERROR_TIMEOUT: Failure.HUNG,
}


def fault_of(error: pynvml.NVMLError, doing: str) -> Fault:
    """What `error` means for the sample in which it happened."""
    return Fault(_FAILURE_OF.get(error.value, Failure.NVML_ERROR), f"{doing}: {error} (NVML {error.value})")


def read_gpu(index: int, known: Gpu | None) -> GpuReading:
    """Everything about card `index`. `known` names it where it does not even tell its uuid any more."""
    gpu = known or Gpu(index, "")
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        gpu = Gpu(index, pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle))
        migs = _mig_handles(handle)
    except pynvml.NVMLError as error:
        return GpuReading(gpu, fault=fault_of(error, f"GPU {index} handle"))
    if migs is None:
        devices: tuple[DeviceReading, ...] = (_read_device(gpu, handle),)
    else:
        # The card itself lists processes of its instances only as an aggregate, and not to everybody.
        devices = tuple(_read_mig(gpu, number, mig) for number, mig in migs)
    return GpuReading(gpu, devices, _sensors(handle))


def read_cgroups(gpu: Gpu, root: str, paths: Sequence[str]) -> CgroupReadings:
    """The driver's account of each cgroup (`root` + path) on one device; not supported before r615."""
    if gpu.is_mig or not hasattr(pynvml, "nvmlDeviceGetMemoryLimits_v1"):
        return CgroupReadings(supported=gpu.is_mig)
    found: dict[str, CgroupReading | Refusal] = {}
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    except pynvml.NVMLError:
        return CgroupReadings(supported=True)  # nothing by path: every container is refused, none is zero
    for path in paths:
        request = pynvml.c_nvmlGetMemoryLimits_v1_t()
        request.nameSpace = f"{root}{path}".encode()
        try:
            pynvml.nvmlDeviceGetMemoryLimits_v1(handle, request)
        except pynvml.NVMLError as error:
            if error.value in _NOT_THERE:
                return CgroupReadings(supported=False)
            found[path] = Refusal.NVML_ERROR
            continue
        hard = None if request.hardLimit == _ALL_ONES else int(request.hardLimit)
        if request.currentUsed == _ALL_ONES:
            found[path] = Refusal.NVML_ERROR
        else:
            found[path] = CgroupReading(int(request.softLimit), hard, int(request.currentUsed))
    return CgroupReadings(supported=True, by_path=found)


def optional(call: Callable[[], T]) -> T | None:
    """The call's answer; None where the card or driver does not have it or cannot give it now."""
    try:
        return call()
    except pynvml.NVMLError:
        return None


def _mig_handles(handle: Handle) -> list[tuple[int, Handle]] | None:
    """The MIG devices, by number, of a card with MIG on; None where MIG is off or unknown to the card."""
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in _NOT_THERE:
            return None
        raise
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append((number, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:  # slots may be empty
                raise
    return found


def _read_mig(parent: Gpu, number: int, handle: Handle) -> DeviceReading:
    try:
        name = optional(lambda: str(pynvml.nvmlDeviceGetName(handle))) or ""
        gpu = Gpu(parent.index, pynvml.nvmlDeviceGetUUID(handle), parent.model, number, name)
    except pynvml.NVMLError as error:
        unnamed = Gpu(parent.index, "", parent.model, number)
        return DeviceReading(unnamed, datetime.now(UTC), 0.0, fault=fault_of(error, "MIG device uuid"))
    return _read_device(gpu, handle)


def _read_device(gpu: Gpu, handle: Handle) -> DeviceReading:
    """Processes first, memory second: a process that ends between them is then in neither."""
    read_at, boot_seconds = datetime.now(UTC), time.clock_gettime(time.CLOCK_BOOTTIME)
    processes: dict[int, int] | None = None
    memory: MemoryReading | None = None
    fault: Fault | None = None
    try:
        processes, fault = _processes(handle)
    except pynvml.NVMLError as error:
        fault = fault_of(error, "process lists")
    try:
        memory = _memory(handle)
    except pynvml.NVMLError as error:
        fault = fault_of(error, "memory")
    if memory is None and fault is None:
        fault = Fault(Failure.MEMORY_UNKNOWN, "memory: the driver answers that it is not available")
    return DeviceReading(gpu, read_at, boot_seconds, memory, None if fault else processes, fault)


def _memory(handle: Handle) -> MemoryReading | None:
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        reserved: int | None = int(info.reserved)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        # Drivers before r510: their "used" includes the reserved part, and nobody can tell how much that is.
        info, reserved = pynvml.nvmlDeviceGetMemoryInfo(handle), None
    amounts = (int(info.total), int(info.used), int(info.free))
    if _ALL_ONES in (*amounts, reserved) or info.total == 0:
        return None
    return MemoryReading(*amounts, reserved)


def _processes(handle: Handle) -> tuple[dict[int, int] | None, Fault | None]:
    """`{pid: bytes}` over compute, graphics and MPS lists: a pid in two of them counts once, by its larger figure."""
    merged: dict[int, int] = {}
    rows = _listed("nvmlDeviceGetComputeRunningProcesses", handle)
    for listing in ("nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses"):
        try:
            rows += _listed(listing, handle)
        except pynvml.NVMLError as error:
            if error.value not in _NOT_THERE:  # a card without graphics or MPS has no such processes
                raise
    for row in rows:
        if row.usedGpuMemory is None:
            return None, Fault(Failure.PROCESS_MEMORY_UNKNOWN, f"memory of pid {row.pid} is not available")
        merged[row.pid] = max(merged.get(row.pid, 0), row.usedGpuMemory)
    return merged, None


def _listed(name: str, handle: Handle) -> list[Any]:
    """The rows of a list. Versioned calls: pynvml's plain ones answer an older library with a class of its own."""
    try:
        return list(getattr(pynvml, f"{name}_v3")(handle))
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return list(getattr(pynvml, f"{name}_v2")(handle))  # drivers before r510; the rows have the same form


def _sensors(handle: Handle) -> Sensors:
    rates = optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    power = optional(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return Sensors(
        utilization_ratio=None if rates is None else rates.gpu / _PERCENT,
        temperature_celsius=optional(
            lambda: float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        ),
        power_watts=None if power is None else power / _MILLI,
        ecc_corrected_count=optional(lambda: _ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)),
        ecc_uncorrected_count=optional(lambda: _ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)),
    )


def _ecc(handle: Handle, kind: int) -> int:
    return int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_AGGREGATE_ECC))
