"""A snapshot as metrics. The label sets are closed: names of pods and devices of one node, and our own enums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry import metric_names
from helpers.domain.telemetry.exposition import Family
from helpers.domain.telemetry.reading import (
    Attribution,
    DeviceSample,
    Failure,
    Fault,
    Gpu,
    MemoryReading,
    Sensors,
    Snapshot,
)


def aged(snapshot: Snapshot, age_seconds: float) -> Snapshot:
    """What is left of `snapshot` once it is too old: devices that are down, and no figures of them."""
    fault = Fault(Failure.STALE, f"the last round of sampling ended {age_seconds:.0f} s ago")
    devices = tuple(DeviceSample(one.gpu, one.sampled_at, fault=fault) for one in snapshot.devices)
    return replace(snapshot, devices=devices, sensors=(), source_up=False, source_fault=fault)


def families(snapshot: Snapshot, *, version: str) -> list[Family]:
    """Every metric of `snapshot`. What a failed sample does not hold is absent."""
    return [
        *_build(snapshot, version),
        *_memory(snapshot.devices),
        *_tenants(snapshot),
        *_health(snapshot),
        *_sensors(snapshot),
    ]


def _device(gpu: Gpu) -> dict[str, str]:
    # A device that never told its uuid still has a row that says it is down, and one of its own.
    return {"gpu": gpu.label, "uuid": gpu.uuid or f"unknown-{gpu.label}"}


def _build(snapshot: Snapshot, version: str) -> list[Family]:
    build = Family("gpumem_build_info", "Version of this component; always 1.")
    build.add(1, component="exporter", version=version)
    driver = Family("gpu_driver_info", "Version of the NVIDIA driver; always 1.")
    driver.add(1 if snapshot.driver_version else None, driver_version=snapshot.driver_version)
    model = Family("gpu_info", "Model of the card; always 1.")
    for sample in snapshot.devices:
        model.add(1 if sample.gpu.model else None, **_device(sample.gpu), model=sample.gpu.model)
    return [build, driver, model]


def _memory(samples: Sequence[DeviceSample]) -> list[Family]:
    total = Family(metric_names.TOTAL, "Physical memory of the device.")
    used = Family(metric_names.USED, "Used memory without the driver's reserved part.")
    free = Family(metric_names.FREE, "Free memory as the driver counts it.")
    reserved = Family(metric_names.RESERVED, "Memory that the driver keeps for itself.")
    for sample in samples:
        if sample.memory is not None:
            _add_memory(total, used, free, reserved, sample.gpu, sample.memory)
    return [total, used, free, reserved]


def _add_memory(total: Family, used: Family, free: Family, reserved: Family, gpu: Gpu, memory: MemoryReading) -> None:
    total.add(memory.total_bytes, **_device(gpu))
    used.add(memory.used_bytes, **_device(gpu))
    free.add(memory.free_bytes, **_device(gpu))
    reserved.add(memory.reserved_bytes, **_device(gpu))


def _tenants(snapshot: Snapshot) -> list[Family]:
    used = Family(metric_names.POD_USED, "Memory that a container's processes use on a device.")
    rest = Family(metric_names.UNATTRIBUTED, "Used memory that no pod owns.")
    ownerless = Family("gpu_unattributed_processes", "Processes on a device that no tenant owns, by reason.")
    limits = Family("gpu_cgroup_limit_bytes", "Limit that the driver enforces on a container (r615); none: absent.")
    refused = Family(
        "gpu_cgroup_readings_refused", "Containers whose per-cgroup reading (r615) is not used, by reason."
    )
    for sample in snapshot.devices:
        if sample.attribution is not None and sample.up:
            _add_uses(used, limits, sample.gpu, sample.attribution)
            rest.add(sample.attribution.unattributed_bytes, **_device(sample.gpu))
            for why, count in sorted(sample.attribution.unattributed_processes.items()):
                ownerless.add(count, **_device(sample.gpu), reason=why)
            for refusal, count in sorted(sample.attribution.refusals.items()):
                refused.add(count, **_device(sample.gpu), reason=refusal.value)
    budget = Family(metric_names.TENANT_BUDGET, "Memory that a container may use: its declared budget.")
    for one in snapshot.budgets:
        budget.add(mib_to_bytes(one.budget_mib), namespace=one.namespace, pod=one.pod, container=one.container)
    unreadable = Family("gpumem_budgets_unreadable", "Containers whose budget is no exact whole number of MiB.")
    unreadable.add(snapshot.unreadable_budget_count if snapshot.pods_at is not None else None)
    return [used, rest, ownerless, limits, refused, budget, unreadable]


def _add_uses(used: Family, limits: Family, gpu: Gpu, attribution: Attribution) -> None:
    for use in attribution.uses:
        who = {"namespace": use.namespace, "pod": use.pod, "container": use.container, **_device(gpu)}
        used.add(use.used_bytes, **who)
        if use.cgroup is not None:
            limits.add(use.cgroup.soft_limit_bytes, **who, limit="soft")
            limits.add(use.cgroup.hard_limit_bytes, **who, limit="hard")


def _health(snapshot: Snapshot) -> list[Family]:
    source = Family("gpu_telemetry_up", "Whether the source of all samples (NVML or DCGM) answers.")
    source.add(int(snapshot.source_up))
    up = Family(
        metric_names.SAMPLE_UP, "Whether the device's sample is whole; enforcement must not act on one that is not."
    )
    attributed = Family(metric_names.ATTRIBUTION_UP, "Whether it is known whose the device's used memory is.")
    at = Family(metric_names.SAMPLE_TIMESTAMP, "When the device's whole sample was taken; absent without one.")
    for sample in snapshot.devices:
        up.add(int(sample.up), **_device(sample.gpu))
        attributed.add(int(sample.attribution is not None), **_device(sample.gpu))
        at.add(sample.sampled_at.timestamp() if sample.up else None, **_device(sample.gpu))
    failures = Family("gpu_sample_failures_total", "Samples that were not whole, by reason.", "counter")
    for (gpu, failure), count in sorted(snapshot.failure_counts.items()):
        failures.add(count, gpu=gpu, reason=failure.value)
    pods = Family("gpumem_pods_up", "Whether the last reading of the node's pods succeeded.")
    pods.add(None if snapshot.pods_up is None else int(snapshot.pods_up))
    pods_at = Family("gpumem_pods_timestamp_seconds", "When the node's pods were last read.")
    pods_at.add(None if snapshot.pods_at is None else snapshot.pods_at.timestamp())
    return [source, up, attributed, at, failures, pods, pods_at]


def _sensors(snapshot: Snapshot) -> list[Family]:
    load = Family(metric_names.UTILIZATION, "Share of the last sample period in which a kernel ran, 0 to 1.")
    heat = Family(metric_names.TEMPERATURE, "Temperature of the card.")
    power = Family("gpu_power_watts", "Power draw of the card.")
    ecc = Family("gpu_ecc_errors_total", "ECC errors over the card's life, by type.", "counter")
    for gpu, sensors in snapshot.sensors:
        load.add(sensors.utilization_ratio, **_device(gpu))
        heat.add(sensors.temperature_celsius, **_device(gpu))
        power.add(sensors.power_watts, **_device(gpu))
        _add_ecc(ecc, gpu, sensors)
    xid = Family(metric_names.XID_EVENTS, "XID errors since this exporter started, by code.", "counter")
    for (gpu, code), count in sorted(snapshot.xid_counts.items(), key=lambda item: (item[0][0].index, item[0][1])):
        xid.add(count, **_device(gpu), xid=str(code))
    return [load, heat, power, ecc, xid]


def _add_ecc(ecc: Family, gpu: Gpu, sensors: Sensors) -> None:
    ecc.add(sensors.ecc_corrected_count, **_device(gpu), type="corrected")
    ecc.add(sensors.ecc_uncorrected_count, **_device(gpu), type="uncorrected")
