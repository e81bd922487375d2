"""Where a job stands in the queue, when it may start, and how sure that is.

The start is found by letting the queue run: whoever holds GPUs gives them back after the duration
that jobs like it were measured to take (else after its limit), and the queue is served in the
engine's own order. It is an estimate: backfill may make a job earlier, and arrivals may pass it.
"""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.ordering import Holding, Waiting
from helpers.domain.watchdog.recommendation import Confidence

LEAST_SAMPLES_COUNT = 3
MOST_SAMPLES_COUNT = 50
_HIGH_RATIO = 0.8
_MEDIUM_RATIO = 0.5


@dataclass(frozen=True)
class Estimate:
    """What can be said about a waiting job. `starts_at` None: nothing can. `basis`: what it rests on, in words."""

    position: int
    starts_at: datetime | None
    confidence: Confidence
    basis: str


class Durations:
    """How long jobs ran that ended well: by project and name, else by project and pool."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def add(self, project_id: str, job_name: str, pool: Pool, seconds: float) -> None:
        """One measured run, newest last."""
        for key in ((project_id, job_name), (project_id, "", pool.name)):
            kept = self._seconds[key]
            kept.append(seconds)
            del kept[:-MOST_SAMPLES_COUNT]

    def measured(self, project_id: str, job_name: str, pool: Pool) -> tuple[float, ...]:
        """Runs of jobs of that name, else of that project and pool; empty where too few were measured."""
        for key in ((project_id, job_name), (project_id, "", pool.name)):
            kept = self._seconds.get(key, ())
            if len(kept) >= LEAST_SAMPLES_COUNT:
                return tuple(kept)
        return ()

    def expected_seconds(self, project_id: str, job_name: str, pool: Pool) -> float | None:
        """The median of jobs like it; None where too few were measured."""
        kept = self.measured(project_id, job_name, pool)
        return statistics.median(kept) if kept else None


@dataclass(frozen=True)
class Expected:
    """How long a job is expected to hold its GPUs (from its start), and whether that was measured."""

    seconds: float
    measured: bool


@dataclass
class _Lane:
    """One pool while the queue is let run: what is free, and when more will be."""

    free: int
    ends: list[tuple[datetime, int]]
    starts_at: datetime
    measured_count: int = 0
    counted: int = 0


def estimates(
    order: Sequence[Waiting],
    holding: Iterable[Holding],
    started: Mapping[str, datetime],
    expected: Mapping[str, Expected],
    capacity: Mapping[Pool, int],
    now_at: datetime,
) -> dict[str, Estimate]:
    """`{job_id: estimate}` of all that wait.

    Args:
        order: All that wait, in the engine's order.
        holding: Who has GPUs.
        started: `{job_id: when}` of those.
        expected: `{job_id: duration}` of both; who is missing ends by its limit.
        capacity: What each pool has; a pool that is missing has an unknown size (its nodes come when they are needed).
        now_at: Now.
    """
    lanes = {pool: _Lane(count, [], now_at) for pool, count in capacity.items()}
    for one in holding:
        lane = lanes.get(one.demand.pool)
        if lane is None:
            continue
        guess = expected.get(one.job_id)
        ends_at = one.ends_at
        if guess is not None and one.job_id in started:
            ends_at = min(ends_at, started[one.job_id] + timedelta(seconds=guess.seconds))
        lane.free -= one.demand.amount
        # Longer than expected already: it may end at any moment.
        heapq.heappush(lane.ends, (max(ends_at, now_at), one.demand.amount))
        lane.counted += 1
        lane.measured_count += int(guess is not None and guess.measured)
    result: dict[str, Estimate] = {}
    for position, job in enumerate(order, 1):
        result[job.job_id] = _served(position, job, lanes.get(job.demand.pool), capacity, expected)
    return result


def _served(
    position: int,
    job: Waiting,
    lane: _Lane | None,
    capacity: Mapping[Pool, int],
    expected: Mapping[str, Expected],
) -> Estimate:
    name = job.demand.pool.name
    if lane is None:
        return Estimate(position, None, Confidence.NONE, f"how many {name} there will be is not known")
    if job.demand.amount > capacity[job.demand.pool]:
        return Estimate(position, None, Confidence.NONE, f"it wants more of {name} than there are now")
    starts_at, ahead, measured = _start(job, lane), lane.counted, lane.measured_count
    guess = expected.get(job.job_id)
    seconds = min(guess.seconds, job.most_seconds) if guess is not None else job.most_seconds
    lane.free -= job.demand.amount
    heapq.heappush(lane.ends, (starts_at + timedelta(seconds=seconds), job.demand.amount))
    lane.counted += 1
    lane.measured_count += int(guess is not None and guess.measured)
    if ahead == 0:
        return Estimate(position, starts_at, Confidence.HIGH, f"nobody is before it for {name}")
    ratio = measured / ahead
    confidence = Confidence.LOW
    if ratio >= _MEDIUM_RATIO:
        confidence = Confidence.HIGH if ratio >= _HIGH_RATIO else Confidence.MEDIUM
    basis = f"{ahead} before it for {name}: {measured} with measured durations, {ahead - measured} by their limits"
    return Estimate(position, starts_at, confidence, basis)


def _start(job: Waiting, lane: _Lane) -> datetime:
    """When enough is free, not before whoever is ahead in the same pool."""
    while lane.free < job.demand.amount:
        ends_at, amount = heapq.heappop(lane.ends)
        lane.free += amount
        lane.starts_at = max(lane.starts_at, ends_at)
    return lane.starts_at
