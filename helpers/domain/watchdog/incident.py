"""The incident of 2026-06-02 as a trace: one tenant of a T4 grows from 2 to 10.7 GB, nobody notices.

Known of it (the field report): the tenant grew 2 → 10.7 GB; the card showed 12571 MiB used, and
3785 after a person had recycled the pod; another tenant could not load for at least 2.5 hours, in
some 440 attempts. The hours of growth, and who held the other 2367 MiB, are filled in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from helpers.domain.watchdog.facts import ContainerUse, GpuSample, PodFacts
from helpers.domain.watchdog.trace import Frame, Trace

USED_AT_PEAK_MIB = 12_571
USED_AFTER_MIB = 3_785
# 2 and 10.7 GB of 10^9 bytes.
GROWS_FROM_MIB = 1_907
GROWS_TO_MIB = 10_204
_SERVER = "immich-server-6c9f7d5b8-k2x7w"
_STT = "portal-stt-7d4b9c6f5-q8z5m"
_OTHERS_MIB = {"frigate-0": 900, _SERVER: 600, _STT: 867}


@dataclass(frozen=True, slots=True)
class IncidentShape:
    """How the incident is drawn. The defaults are the report's; MiB, hours and seconds."""

    physical_mib: int = 15_360
    # What the driver keeps of a T4 (about 450 MiB, NVIDIA/KAI-Scheduler#2212).
    reserved_mib: int = 450
    grows_from_mib: int = GROWS_FROM_MIB
    grows_to_mib: int = GROWS_TO_MIB
    after_mib: int = USED_AFTER_MIB - sum(_OTHERS_MIB.values())
    quiet_hours: float = 1.0
    growth_hours: float = 3.0
    peak_hours: float = 2.5
    after_hours: float = 0.5
    step_seconds: float = 15.0


def incident_trace(shape: IncidentShape | None = None) -> Trace:
    """The incident look by look, as nobody touched it until a person recycled the pod."""
    drawn = shape or IncidentShape()
    began_at = datetime(2026, 6, 2, 4, 0, tzinfo=UTC)
    looks_count = round(_hours(drawn) * 3600 / drawn.step_seconds)
    return tuple(_look(drawn, began_at, timedelta(seconds=index * drawn.step_seconds)) for index in range(looks_count))


def _hours(shape: IncidentShape) -> float:
    return shape.quiet_hours + shape.growth_hours + shape.peak_hours + shape.after_hours


def _tenant_mib(shape: IncidentShape, hours: float) -> int:
    grown_hours = hours - shape.quiet_hours
    if grown_hours >= shape.growth_hours + shape.peak_hours:
        return shape.after_mib
    grown_ratio = min(1.0, max(0.0, grown_hours / shape.growth_hours))
    return shape.grows_from_mib + round((shape.grows_to_mib - shape.grows_from_mib) * grown_ratio)


def _look(shape: IncidentShape, began_at: datetime, after: timedelta) -> Frame:
    at = began_at + after
    hours = after.total_seconds() / 3600
    recycled_at = began_at + timedelta(hours=_hours(shape) - shape.after_hours)
    successor = at >= recycled_at
    grower = f"immich-machine-learning-5f6d8c9b7-{'x4v9t' if successor else 'n7p2r'}"
    rows = (
        ContainerUse("immich", grower, "main", _tenant_mib(shape, hours)),
        ContainerUse("frigate", "frigate-0", "frigate", _OTHERS_MIB["frigate-0"]),
        ContainerUse("immich", _SERVER, "main", _OTHERS_MIB[_SERVER]),
        ContainerUse("portal", _STT, "stt", _OTHERS_MIB[_STT]),
    )
    used_mib = sum(row.used_mib for row in rows)
    sample = GpuSample(
        node="t4-node",
        gpu="0",
        uuid="GPU-7f3c1d52-0602-4a6e-9b1d-2026060200f4",
        sampled_at=at,
        ok=True,
        total_mib=shape.physical_mib,
        used_mib=used_mib,
        free_mib=shape.physical_mib - shape.reserved_mib - used_mib,
        reserved_mib=shape.reserved_mib,
        pods=rows,
        unattributed_mib=0,
    )
    started_at = recycled_at - timedelta(seconds=2) if successor else began_at - timedelta(days=3)
    return Frame(at, (sample,), _pods(grower, started_at, began_at - timedelta(days=9)))


def _pods(grower: str, grower_started_at: datetime, others_started_at: datetime) -> tuple[PodFacts, ...]:
    return (
        _pod("immich", grower, "immich-ml", 3000, "ReplicaSet", "realtime", grower_started_at),
        _pod("frigate", "frigate-0", "frigate", 2000, "StatefulSet", "realtime", others_started_at),
        _pod("immich", _SERVER, "immich-server", 1800, "ReplicaSet", "batch", others_started_at),
        _pod("portal", _STT, "portal-stt", 1500, "ReplicaSet", "realtime", others_started_at),
    )


def _pod(
    namespace: str, name: str, tenant: str, budget_mib: int, owner_kind: str, workload_class: str, started_at: datetime
) -> PodFacts:
    return PodFacts(
        namespace=namespace,
        name=name,
        uid=f"uid-{name}",
        node="t4-node",
        tenant=tenant,
        budget_mib=budget_mib,
        owner_kind=owner_kind,
        workload_class=workload_class,
        started_at=started_at,
    )
