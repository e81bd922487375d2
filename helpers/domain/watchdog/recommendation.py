"""Budgets from measured use: what each tenant needs, and how sure that is.

Percentiles are nearest-rank, so that each is a value that was really seen. Growth is the median of
the slopes between pairs of looks (Theil and Sen), which one spike does not move; its confidence is
the excess of rising over falling pairs (Kendall's tau).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from helpers.domain.watchdog.facts import GpuSample, PodFacts
from helpers.domain.watchdog.trace import Trace

# A day shows the load of a day; fewer looks than this make a p99 that is just the maximum.
LEAST_OBSERVED = timedelta(hours=24)
LEAST_LOOKS_COUNT = 200
WELL_OBSERVED = timedelta(days=7)
STARTUP = timedelta(minutes=10)
# Whole percent: 3000 * 1.1 is a little more than 3300, and would be rounded up a whole step.
HEADROOM_PERCENT = 10
BUDGET_STEP_MIB = 100
# Growth that doubles nothing within a month is no leak that a budget need know of.
LEAK_RATIO_PER_DAY = 0.03
LEAK_LEAST_MIB_PER_DAY = 32.0
LEAK_TAU_RATIO = 0.5
_MOST_TREND_POINTS = 120


class Confidence(StrEnum):
    """How much a figure rests on."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Leak(StrEnum):
    """What the growth of a tenant's pods between their starts looks like."""

    STEADY = "steady"
    GROWING = "growing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class UsePoint:
    """One look at one pod: MiB over all its containers on all cards."""

    at: datetime
    used_mib: int


@dataclass(frozen=True, slots=True)
class PodUse:
    """One pod's life as it was seen. `started_at` None: it ran already when the record begins."""

    pod: str
    started_at: datetime | None
    points: tuple[UsePoint, ...]


@dataclass(frozen=True, slots=True)
class Growth:
    """`mib_per_day` and `tau_ratio` (-1 falling always, 1 rising always); None: too little to say."""

    leak: Leak
    mib_per_day: float | None
    tau_ratio: float | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What was measured of one tenant, for one pod of it. MiB; None where nothing can be said.

    `startup_spike_mib` is the most that a pod held in its first ten minutes above its own later
    p50. `suggested_mib` None: `reasons` say why there is no suggestion.
    """

    tenant: str
    budget_mib: int | None
    observed_seconds: float
    looks_count: int
    pods_count: int
    baseline_mib: int | None
    p50_mib: int | None
    p99_mib: int | None
    max_mib: int | None
    startup_spike_mib: int | None
    growth: Growth
    suggested_mib: int | None
    confidence: Confidence
    reasons: tuple[str, ...]

    @property
    def below_need(self) -> bool | None:
        """Whether the budget is under the measured p99; None where nobody knows either."""
        if self.budget_mib is None or self.p99_mib is None:
            return None
        return self.budget_mib < self.p99_mib


def use_by_tenant(trace: Trace) -> dict[str, tuple[PodUse, ...]]:
    """`{tenant: its pods' use}` from the looks of `trace` whose cards were all read on that node."""
    began_at = trace[0].at
    points: dict[tuple[str, str], list[UsePoint]] = {}
    pods: dict[str, PodFacts] = {}
    for frame in trace:
        failed = {sample.node for sample in frame.samples if not sample.ok}
        used = _used_by_pod(sample for sample in frame.samples if sample.node not in failed)
        for pod in frame.pods:
            used_mib = used.get((pod.namespace, pod.name))
            if pod.tenant is not None and used_mib is not None and not pod.terminating:
                pods[pod.uid] = pod
                points.setdefault((pod.tenant, pod.uid), []).append(UsePoint(frame.at, used_mib))
    found: dict[str, list[PodUse]] = {}
    for (tenant, uid), seen in points.items():
        started_at = pods[uid].started_at
        known = started_at if started_at is not None and started_at >= began_at else None
        found.setdefault(tenant, []).append(PodUse(str(pods[uid]), known, tuple(seen)))
    return {tenant: tuple(uses) for tenant, uses in found.items()}


def _used_by_pod(samples: Iterable[GpuSample]) -> dict[tuple[str, str], int]:
    used: dict[tuple[str, str], int] = {}
    for sample in samples:
        for row in sample.pods:
            key = (row.namespace, row.pod)
            used[key] = used.get(key, 0) + row.used_mib
    return used


def recommend(tenant: str, budget_mib: int | None, uses: Sequence[PodUse]) -> Recommendation:
    """The recommendation for one tenant. `uses` may be empty: then nothing was seen of it."""
    values = sorted(point.used_mib for use in uses for point in use.points)
    observed = _observed(uses)
    growth = measure_growth(uses)
    thin = _too_thin(observed, len(values))
    p99_mib = percentile(values, 0.99)
    suggested_mib, reasons = None, list(thin)
    if not thin and growth.leak is Leak.GROWING:
        # A budget for a leak is only an appointment for the next incident.
        reasons.append(
            f"it grows by {growth.mib_per_day:.0f} MiB a day (tau {growth.tau_ratio:.2f}): "
            "no budget holds that; find the leak, or restart it on a schedule"
        )
    elif not thin and p99_mib is not None:
        suggested_mib, reasons = _suggest(values, p99_mib)
    return Recommendation(
        tenant=tenant,
        budget_mib=budget_mib,
        observed_seconds=observed.total_seconds(),
        looks_count=len(values),
        pods_count=len(uses),
        baseline_mib=percentile(values, 0.10),
        p50_mib=percentile(values, 0.50),
        p99_mib=p99_mib,
        max_mib=values[-1] if values else None,
        startup_spike_mib=_startup_spike_mib(uses),
        growth=growth,
        suggested_mib=suggested_mib,
        confidence=_confidence(thin, growth, observed, uses),
        reasons=tuple(reasons),
    )


def percentile(ordered: Sequence[int], ratio: float) -> int | None:
    """The nearest-rank percentile of ascending `ordered`; None where there is nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


def _observed(uses: Sequence[PodUse]) -> timedelta:
    """The time that was really looked at: of each pod's life, first to last look, overlaps once."""
    spans = sorted((use.points[0].at, use.points[-1].at) for use in uses if use.points)
    total, end = timedelta(), None
    for first, last in spans:
        begin = first if end is None else max(first, end)
        total += max(timedelta(), last - begin)
        end = last if end is None else max(end, last)
    return total


def _too_thin(observed: timedelta, looks_count: int) -> list[str]:
    reasons = []
    if observed < LEAST_OBSERVED:
        hours = observed.total_seconds() / 3600
        least_hours = LEAST_OBSERVED.total_seconds() / 3600
        reasons.append(f"it was seen for {hours:.1f} h, and a suggestion needs {least_hours:.0f}")
    if looks_count < LEAST_LOOKS_COUNT:
        reasons.append(f"{looks_count} looks show it, and a suggestion needs {LEAST_LOOKS_COUNT}")
    return reasons


def _suggest(values: Sequence[int], p99_mib: int) -> tuple[int, list[str]]:
    """p99 with headroom, and never less than the maximum: a budget under it is an overshoot foretold."""
    with_headroom_mib = -(-p99_mib * (100 + HEADROOM_PERCENT) // 100)
    needed_mib = max(with_headroom_mib, values[-1])
    suggested_mib = max(1, math.ceil(needed_mib / BUDGET_STEP_MIB)) * BUDGET_STEP_MIB
    what = "the maximum" if needed_mib > with_headroom_mib else f"p99 {p99_mib} and {HEADROOM_PERCENT}% headroom"
    return suggested_mib, [f"{what} is {needed_mib} MiB; rounded up to {BUDGET_STEP_MIB}"]


def _startup_spike_mib(uses: Sequence[PodUse]) -> int | None:
    spikes = []
    for use in uses:
        if use.started_at is None:
            continue
        early = [point.used_mib for point in use.points if point.at - use.started_at <= STARTUP]
        later = sorted(point.used_mib for point in use.points if point.at - use.started_at > STARTUP)
        usual_mib = percentile(later, 0.5)
        if early and usual_mib is not None:
            spikes.append(max(0, max(early) - usual_mib))
    return max(spikes, default=None)


def measure_growth(uses: Sequence[PodUse]) -> Growth:
    """How the pods grow between their starts; start-up is left out, and pods are never mixed.

    The verdict is the longest-seen pod's, since a leak shows in the life that lasted.
    """
    steady = [_thinned(_after_startup(use)) for use in uses]
    longest = max(steady, key=lambda points: points[-1].at - points[0].at if points else timedelta(), default=[])
    if len(longest) < 10 or longest[-1].at - longest[0].at < LEAST_OBSERVED:
        return Growth(Leak.UNKNOWN, None, None)
    slopes, rising, falling = [], 0, 0
    for index, first in enumerate(longest):
        for second in longest[index + 1 :]:
            days = (second.at - first.at) / timedelta(days=1)
            slopes.append((second.used_mib - first.used_mib) / days)
            rising += second.used_mib > first.used_mib
            falling += second.used_mib < first.used_mib
    mib_per_day = sorted(slopes)[len(slopes) // 2]
    tau_ratio = (rising - falling) / len(slopes)
    usual_mib = percentile(sorted(point.used_mib for point in longest), 0.5) or 0
    least_mib = max(LEAK_LEAST_MIB_PER_DAY, usual_mib * LEAK_RATIO_PER_DAY)
    growing = mib_per_day >= least_mib and tau_ratio >= LEAK_TAU_RATIO
    return Growth(Leak.GROWING if growing else Leak.STEADY, mib_per_day, tau_ratio)


def _after_startup(use: PodUse) -> list[UsePoint]:
    since = use.started_at or (use.points[0].at - STARTUP if use.points else None)
    return [point for point in use.points if since is not None and point.at - since > STARTUP]


def _thinned(points: list[UsePoint]) -> list[UsePoint]:
    """Evenly chosen, first and last kept: pairs grow with the square."""
    if len(points) <= _MOST_TREND_POINTS:
        return points
    last = len(points) - 1
    return [points[round(index * last / (_MOST_TREND_POINTS - 1))] for index in range(_MOST_TREND_POINTS)]


def _confidence(thin: Sequence[str], growth: Growth, observed: timedelta, uses: Sequence[PodUse]) -> Confidence:
    if thin:
        return Confidence.NONE
    if growth.leak is Leak.UNKNOWN or observed < WELL_OBSERVED:
        return Confidence.LOW if growth.leak is Leak.UNKNOWN else Confidence.MEDIUM
    starts_seen = any(use.started_at is not None for use in uses)
    return Confidence.HIGH if starts_seen else Confidence.MEDIUM


def recommend_all(trace: Trace, budgets_mib: Mapping[str, int]) -> tuple[Recommendation, ...]:
    """One recommendation for each tenant of `budgets_mib` (`{tenant: MiB}`), in its order."""
    uses = use_by_tenant(trace)
    return tuple(recommend(tenant, budget_mib, uses.get(tenant, ())) for tenant, budget_mib in budgets_mib.items())
