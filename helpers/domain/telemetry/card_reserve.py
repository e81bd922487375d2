"""What a card keeps from pods, measured: the number that an estate's `reserve_mib` guesses at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.domain.watchdog.facts import GpuSample
from helpers.domain.watchdog.recommendation import LEAST_LOOKS_COUNT, percentile
from helpers.domain.watchdog.trace import Trace

RESERVE_STEP_MIB = 10


@dataclass(frozen=True, slots=True)
class CardReserve:
    """What of a card was neither free nor held by pods: p99 over its believable looks."""

    card: str
    uuid: str
    looks_count: int
    p50_mib: int | None
    p99_mib: int | None
    suggested_mib: int | None
    reasons: tuple[str, ...]


def measure_reserve(trace: Trace) -> tuple[CardReserve, ...]:
    """What each card keeps from pods: total - free - what pods hold, at p99, by node and card.

    That is the driver's reserved part and everything that no pod owns, contexts and exporters
    included. Failed looks are left out; they are unknown, not zero.
    """
    kept: dict[tuple[str, str], list[int]] = {}
    seen: dict[tuple[str, str], GpuSample] = {}
    for frame in trace:
        for sample in frame.samples:
            key = (sample.node, sample.uuid)
            seen[key] = sample
            if sample.ok and sample.total_mib is not None and sample.free_mib is not None:
                pods_mib = sum(row.used_mib for row in sample.pods if row.pod)
                # Rows are rounded up each, so the difference may come out a little under nothing.
                kept.setdefault(key, []).append(max(0, sample.total_mib - sample.free_mib - pods_mib))
    return tuple(_reserve(seen[key], sorted(kept.get(key, ()))) for key in sorted(seen))


def _reserve(sample: GpuSample, kept: Sequence[int]) -> CardReserve:
    p50_mib, p99_mib = percentile(kept, 0.50), percentile(kept, 0.99)
    suggested_mib, reasons = None, (f"{len(kept)} looks show the card, and a suggestion needs {LEAST_LOOKS_COUNT}",)
    if p99_mib is not None and len(kept) >= LEAST_LOOKS_COUNT:
        suggested_mib = math.ceil(p99_mib / RESERVE_STEP_MIB) * RESERVE_STEP_MIB
        reasons = (f"p99 of total - free - pods is {p99_mib} MiB over {len(kept)} looks",)
    return CardReserve(sample.card, sample.uuid, len(kept), p50_mib, p99_mib, suggested_mib, reasons)
