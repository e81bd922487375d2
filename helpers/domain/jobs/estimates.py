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
from helpers.domain.jobs.ordering import Holding, Waiting, pools_of, seats_of
from helpers.domain.jobs.room import Nodes, PoolRooms, Seats
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


class _Lane:
    """The nodes of a pool on which jobs of one capacity may be, while the queue is let run."""

    def __init__(self, pool: PoolRooms, spot: bool | None, now_at: datetime) -> None:
        mine = [room for room in pool.rooms if Seats(1, 1, spot).may_be_on(room)]
        self.nodes = Nodes(mine)
        self.starts_at = now_at
        self.measured_count = 0
        self.counted = 0
        self._ends: list[tuple[datetime, int, int]] = []
        self._unplaced = pool.unplaced
        self._held: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, room in enumerate(self.nodes.rooms):
            for job_id, amount in room.held.items():
                self._held[job_id].append((index, amount))

    def hold(self, job_id: str, ends_at: datetime, *, measured: bool) -> None:
        """Somebody has GPUs here until then."""
        seats = self._unplaced.get(job_id)
        taken = [*self._held.pop(job_id, ()), *(self.nodes.seat(seats) if seats is not None else ())]
        if taken:
            self._until(ends_at, taken, measured=measured)

    def clear(self, now_at: datetime) -> None:
        """Whoever is here beside those is on the way out."""
        for taken in self._held.values():
            for index, amount in taken:
                heapq.heappush(self._ends, (now_at, index, amount))

    def serve(self, seats: Seats, seconds: float, *, measured: bool) -> datetime:
        """When all find room, not before whoever is ahead in the same lane. They must fit when nobody is there."""
        while self.nodes.fitting_count(seats) < seats.count:
            ends_at, index, amount = heapq.heappop(self._ends)
            self.nodes.left[index] += amount
            self.starts_at = max(self.starts_at, ends_at)
        self._until(self.starts_at + timedelta(seconds=seconds), self.nodes.seat(seats), measured=measured)
        return self.starts_at

    def _until(self, ends_at: datetime, taken: Iterable[tuple[int, int]], *, measured: bool) -> None:
        for index, amount in taken:
            heapq.heappush(self._ends, (ends_at, index, amount))
        self.counted += 1
        self.measured_count += int(measured)


def estimates(
    order: Sequence[Waiting],
    holding: Sequence[Holding],
    started: Mapping[str, datetime],
    expected: Mapping[str, Expected],
    capacity: Mapping[Pool, int],
    now_at: datetime,
    rooms: Mapping[Pool, PoolRooms] | None = None,
) -> dict[str, Estimate]:
    """`{job_id: estimate}` of all that wait.

    Args:
        order: All that wait, in the engine's order.
        holding: Who has GPUs.
        started: `{job_id: when}` of those.
        expected: `{job_id: duration}` of both; who is missing ends by its limit.
        capacity: What each pool has; a pool that is missing has an unknown size (its nodes come when they are needed).
        now_at: Now.
        rooms: `{pool: its nodes}`; a pool that is missing is taken for one node. Machines that may still be made, as
            spot or as on-demand, count for both.
    """
    pools = pools_of(holding, capacity, rooms or {})
    empty = {pool: Nodes(found.rooms) for pool, found in pools.items()}
    lanes: dict[tuple[Pool, bool | None], _Lane] = {}
    result: dict[str, Estimate] = {}
    for position, job in enumerate(order, 1):
        pool = job.demand.pool
        if pool not in pools:
            basis = f"how many {pool.name} there will be is not known"
            result[job.job_id] = Estimate(position, None, Confidence.NONE, basis)
            continue
        seats = seats_of(job, empty[pool])
        if not empty[pool].holds(seats):
            basis = f"it wants more of {pool.name} than there are now"
            result[job.job_id] = Estimate(position, None, Confidence.NONE, basis)
            continue
        key = lane_key(pool, seats.spot, rooms or {})
        if key not in lanes:
            lanes[key] = _lane(key, pools[pool], holding, started, expected, now_at)
        result[job.job_id] = _served(position, job, seats, lanes[key], expected.get(job.job_id))
    return result


def lane_key(pool: Pool, spot: bool | None, rooms: Mapping[Pool, PoolRooms]) -> tuple[Pool, bool | None]:
    """Who waits for the same: spot and on-demand are apart where the nodes are known."""
    return pool, spot if pool in rooms else None


def _lane(
    key: tuple[Pool, bool | None],
    found: PoolRooms,
    holding: Sequence[Holding],
    started: Mapping[str, datetime],
    expected: Mapping[str, Expected],
    now_at: datetime,
) -> _Lane:
    lane = _Lane(found, key[1], now_at)
    for one in holding:
        if one.demand.pool != key[0]:
            continue
        guess = expected.get(one.job_id)
        ends_at = one.ends_at
        if guess is not None and one.job_id in started:
            ends_at = min(ends_at, started[one.job_id] + timedelta(seconds=guess.seconds))
        # Longer than expected already: it may end at any moment.
        lane.hold(one.job_id, max(ends_at, now_at), measured=guess is not None and guess.measured)
    lane.clear(now_at)
    return lane


def _served(position: int, job: Waiting, seats: Seats, lane: _Lane, guess: Expected | None) -> Estimate:
    name, ahead, measured = job.demand.pool.name, lane.counted, lane.measured_count
    seconds = min(guess.seconds, job.most_seconds) if guess is not None else job.most_seconds
    starts_at = lane.serve(seats, seconds, measured=guess is not None and guess.measured)
    if ahead == 0:
        return Estimate(position, starts_at, Confidence.HIGH, f"nobody is before it for {name}")
    ratio = measured / ahead
    confidence = Confidence.LOW
    if ratio >= _MEDIUM_RATIO:
        confidence = Confidence.HIGH if ratio >= _HIGH_RATIO else Confidence.MEDIUM
    basis = f"{ahead} before it for {name}: {measured} with measured durations, {ahead - measured} by their limits"
    return Estimate(position, starts_at, confidence, basis)
