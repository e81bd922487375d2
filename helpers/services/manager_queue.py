"""The queue as every replica sees it: who waits in which order, and when each may start.

It is read again and again in the background, and requests are answered from the last look: with
thousands of jobs an order takes longer to make than a request may take.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from helpers.domain.errors import DependencyError
from helpers.domain.jobs.estimates import Durations, Estimate, Expected, estimates, lane_key
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.ordering import Holding, Waiting
from helpers.domain.jobs.places import SPOT
from helpers.domain.jobs.preemption import first_capacity
from helpers.domain.jobs.room import PoolRooms
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import SECONDS_PER_HOUR, JobSpec, Priority
from helpers.domain.jobs.states import HOLDING, WAITING
from helpers.domain.watchdog.recommendation import Confidence
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine, QueueFacts
from helpers.ports.job_store import JobStore, QueueRow
from helpers.ports.log import Log

LOOK_SECONDS = 1.0
# A look may take at most this part of a core, however long the queue is: requests wait for the same interpreter.
_LOOK_SHARE = 0.03
DURATIONS_SECONDS = 60.0
_MOST_RUNS_COUNT = 2000
LONG_QUEUE_COUNT = 100
# Longer than a commit takes, and than replicas' clocks are apart.
_SETTLED = timedelta(seconds=2)


@dataclass(frozen=True)
class QueueSnapshot:
    """One look. `as_urgent`: how many wait before a new job of each priority; `last_start`: of the last
    that waits for the same.

    `settled`: as `as_urgent`, without those so new that some beside them may not have been committed yet.
    """

    at: datetime
    order: tuple[Waiting, ...] = ()
    holding: tuple[Holding, ...] = ()
    rows: tuple[QueueRow, ...] = ()
    capacity: Mapping[Pool, int] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    as_urgent: Mapping[Priority, int] = field(default_factory=dict)
    settled: Mapping[Priority, int] = field(default_factory=dict)
    last_start: Mapping[tuple[Pool, bool | None], datetime | None] = field(default_factory=dict)
    rooms: Mapping[Pool, PoolRooms] = field(default_factory=dict)


def waiting_of(row: QueueRow, default_hours: float) -> Waiting:
    """A row as the order needs it. What it has held already is taken off what it may hold."""
    most_seconds = (row.max_duration_hours or default_hours) * SECONDS_PER_HOUR - row.held_seconds
    most_seconds = max(0.0, most_seconds)
    spot = row.capacity == SPOT
    return Waiting(row.job_id, row.project_id, row.priority, row.queued_at, row.demand, most_seconds, spot)


def holding_of(row: QueueRow, default_hours: float, now_at: datetime) -> Holding:
    """A row that has its GPUs."""
    most_seconds = (row.max_duration_hours or default_hours) * SECONDS_PER_HOUR - row.held_seconds
    return Holding(
        row.job_id, row.project_id, row.demand, (row.started_at or now_at) + timedelta(seconds=max(0.0, most_seconds))
    )


class QueueBoard:
    """Looks, and remembers the last look."""

    def __init__(
        self, store: JobStore, engine: JobEngine | None, settings: ManagerSettings, clock: Clock, log: Log
    ) -> None:
        self._store = store
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._log = log
        self._rules = settings.rules()
        self._durations = Durations()
        self._durations_read_seconds: float | None = None
        self.last = QueueSnapshot(clock.now_at())
        self._lock = threading.Lock()
        # Jobs that this replica committed since the last look.
        self._own_ids: dict[str, Priority] = {}
        self._own: Counter[Priority] = Counter()

    @property
    def durations(self) -> Durations:
        """How long jobs were measured to take."""
        return self._durations

    def run(self, stop: Callable[[], bool]) -> None:
        """Looks until it is told to stop. A database or cluster that does not answer is tried again."""
        while not stop():
            began_seconds = self._clock.monotonic_seconds()
            try:
                self.look()
            except DependencyError as error:
                self._log.warning("queue_not_read", reason=str(error))
            took_seconds = self._clock.monotonic_seconds() - began_seconds
            self._sleep(max(LOOK_SECONDS, took_seconds / _LOOK_SHARE), stop)

    def _sleep(self, seconds: float, stop: Callable[[], bool]) -> None:
        until_seconds = self._clock.monotonic_seconds() + seconds
        while not stop() and (left := until_seconds - self._clock.monotonic_seconds()) > 0:
            self._clock.sleep_seconds(min(left, 0.2))

    def look(self) -> QueueSnapshot:
        """Reads the queue and puts it in order."""
        now_at = self._clock.now_at()
        self._read_durations()
        with self._lock:
            before = list(self._own_ids)
        rows = self._store.queue()
        hours = self._settings.max_duration_hours
        waiting = [waiting_of(row, hours) for row in rows if row.status in WAITING]
        held = [row for row in rows if row.status in HOLDING]
        holding = [holding_of(row, hours, now_at) for row in held]
        capacity: Mapping[Pool, int] = self._engine.capacity() if self._engine is not None else {}
        rooms: Mapping[Pool, PoolRooms] = self._engine.rooms() if self._engine is not None else {}
        facts = QueueFacts(waiting, holding, capacity, self._rules, now_at=now_at)
        order = self._engine.order(facts) if self._engine is not None else _by_age(waiting)
        started = {row.job_id: row.started_at or now_at for row in held}
        found = estimates(order, holding, started, self._expected(rows), capacity, now_at, rooms)
        found_all = QueueSnapshot(
            at=now_at,
            order=tuple(order),
            holding=tuple(holding),
            rows=tuple(rows),
            capacity=capacity,
            estimates=found,
            as_urgent=_as_urgent(job.priority for job in waiting),
            settled=_as_urgent(
                row.priority for row in rows if row.status in WAITING and row.created_at < now_at - _SETTLED
            ),
            last_start={lane_key(job.demand.pool, job.spot, rooms): found[job.job_id].starts_at for job in order},
            rooms=rooms,
        )
        with self._lock:
            # What was committed before the read began is in it, or over already.
            for job_id in {*before, *(row.job_id for row in rows)} & self._own_ids.keys():
                self._own[self._own_ids.pop(job_id)] -= 1
            self.last = found_all
        return found_all

    def of(self, job_id: str) -> Estimate | None:
        """Where a job stood at the last look; None: it was not waiting then."""
        return self.last.estimates.get(job_id)

    def of_new(self, spec: JobSpec, now_at: datetime) -> Estimate:
        """Where a job stands that was not there at the last look."""
        last, pool = self.last, spec.demand.pool
        position = 1 + last.as_urgent.get(spec.priority, 0)
        if spec.demand.amount > last.capacity.get(pool, 0):
            return Estimate(position, None, Confidence.NONE, f"there are {last.capacity.get(pool, 0)} {pool.name} now")
        is_spot = first_capacity(spec, offers_spot=self._settings.offers_spot) == SPOT
        starts_at = last.last_start.get(lane_key(pool, is_spot, last.rooms), now_at)
        return Estimate(position, starts_at, Confidence.LOW, "behind all that are as urgent; not looked at yet")

    def of_submitted(self, job: Job) -> Estimate:
        """Where a job stands that this replica has just committed: behind those that it committed since the last look.

        It asks nobody: a way more to the database is what a burst of submits cannot afford (measured: the slowest 5 of
        100 took three times as long). Those of another replica are missing here until the next look.
        """
        with self._lock:
            estimate = self.of_new(job.spec, self._clock.now_at())
            newer_count = sum(self._own[one] for one in Priority if one.rank <= job.spec.priority.rank)
            if job.job_id not in self._own_ids:  # else it is the same submit, sent again
                self._own_ids[job.job_id] = job.spec.priority
                self._own[job.spec.priority] += 1
        return replace(estimate, position=estimate.position + newer_count)

    def of_asked(self, job: Job) -> Estimate:
        """Where a job stands that is newer than the last look: behind whoever was committed before it, by any replica.

        In a long queue that is not asked: who is told to be the 500th needs no better number. Nor does a database that
        does not answer make more of it than the last look did.
        """
        last, estimate = self.last, self.of_new(job.spec, self._clock.now_at())
        if len(last.order) > LONG_QUEUE_COUNT:
            return estimate
        try:
            newer_count = self._store.waiting_before(job, last.at - _SETTLED)
        except DependencyError as error:
            self._log.warning("position_not_read", job_id=job.job_id, reason=str(error))
            return estimate
        return replace(estimate, position=1 + last.settled.get(job.spec.priority, 0) + newer_count)

    def _expected(self, rows: Sequence[QueueRow]) -> dict[str, Expected]:
        known: dict[tuple[str, str, Pool], float | None] = {}
        result = {}
        for row in rows:
            key = (row.project_id, row.job_name, row.demand.pool)
            if key not in known:
                known[key] = self._durations.expected_seconds(*key)
            seconds = known[key]
            if seconds is not None:
                result[row.job_id] = Expected(seconds, measured=True)
        return result

    def _read_durations(self) -> None:
        now_seconds = self._clock.monotonic_seconds()
        if self._durations_read_seconds is not None and now_seconds < self._durations_read_seconds + DURATIONS_SECONDS:
            return
        durations = Durations()
        for run in self._store.finished_runs(_MOST_RUNS_COUNT):
            durations.add(run.project_id, run.job_name, run.demand.pool, run.seconds)
        self._durations, self._durations_read_seconds = durations, now_seconds


def _by_age(waiting: Sequence[Waiting]) -> list[Waiting]:
    return sorted(waiting, key=lambda job: (job.queued_at, job.job_id))


def _as_urgent(priorities: Iterable[Priority]) -> dict[Priority, int]:
    counts = Counter(priorities)
    return {one: sum(counts[other] for other in Priority if other.rank <= one.rank) for one in Priority}
