"""Whose turn it is.

Three policies give an order; `decide` says who of it may go now. What keeps a job from starving:

1. **Aging.** For every `aging_seconds` of waiting a job counts as one priority higher, so that no
   stream of urgent jobs keeps a low one back for ever.
2. **A reservation for whoever is first and does not fit** (EASY backfill). Jobs behind it may only go
   where they do not move its start: they end, by their own enforced limit, before enough is free for
   it, or take what it will not need then. Every running job has such a limit, so the start is finite.
3. **All or nothing.** A job is let go with all its workers or not at all.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from helpers.domain.jobs.gpus import Demand, Pool
from helpers.domain.jobs.spec import Priority


class Policy(StrEnum):
    """How a queue is ordered."""

    FIFO = "fifo"
    PRIORITY = "priority"
    FAIR_SHARE = "fair_share"


@dataclass(frozen=True)
class Waiting:
    """A job that waits. `most_seconds`: how long it may run at most, which somebody enforces."""

    job_id: str
    project_id: str
    priority: Priority
    queued_at: datetime
    demand: Demand
    most_seconds: float


@dataclass(frozen=True)
class Holding:
    """A job that has its GPUs. `ends_at`: when its limit ends it at the latest."""

    job_id: str
    project_id: str
    demand: Demand
    ends_at: datetime


@dataclass(frozen=True)
class Rules:
    """How the order is made. `weights`: `{project: weight}`; a project that is not named has weight 1.

    `quotas`: `{project: cards that it may hold}`; a project that is not named has no ceiling of its own.
    """

    policy: Policy = Policy.FAIR_SHARE
    weights: Mapping[str, float] | None = None
    quotas: Mapping[str, float] | None = None
    aging_seconds: float = 4 * 3600.0

    def weight(self, project_id: str) -> float:
        """The project's weight."""
        return (self.weights or {}).get(project_id, 1.0)


def effective_rank(job: Waiting, now_at: datetime, aging_seconds: float) -> int:
    """The job's priority rank after aging; 0 goes first."""
    waited_seconds = max(0.0, (now_at - job.queued_at).total_seconds())
    return max(0, job.priority.rank - int(waited_seconds // aging_seconds))


def ordered(
    waiting: Iterable[Waiting],
    holding: Iterable[Holding],
    capacity: Mapping[Pool, int],
    rules: Rules,
    now_at: datetime,
) -> list[Waiting]:
    """All that wait, in the order of their turns.

    Args:
        waiting: Who waits; their own order does not matter.
        holding: Who has GPUs; under fair share this counts against their projects.
        capacity: `{pool: cards, instances or MiB in all}`; a pool that is missing counts as of size 1.
        rules: Policy and weights.
        now_at: For aging.
    """
    by_age = sorted(waiting, key=lambda job: (job.queued_at, job.job_id))
    if rules.policy is Policy.FIFO:
        return by_age
    classes: dict[int, list[Waiting]] = defaultdict(list)
    for job in by_age:
        classes[effective_rank(job, now_at, rules.aging_seconds)].append(job)
    if rules.policy is Policy.PRIORITY:
        return [job for rank in sorted(classes) for job in classes[rank]]
    shares = _Shares(capacity, rules)
    for one in holding:
        shares.add(one.project_id, one.demand)
    return [job for rank in sorted(classes) for job in _fair(classes[rank], shares)]


class _Shares:
    """Dominant shares: the largest part of any pool that a project holds, by its weight."""

    def __init__(self, capacity: Mapping[Pool, int], rules: Rules) -> None:
        self._capacity = capacity
        self._rules = rules
        self._held: dict[str, dict[Pool, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, project_id: str, demand: Demand) -> None:
        self._held[project_id][demand.pool] += demand.amount

    def of(self, project_id: str) -> float:
        parts = (amount / max(1, self._capacity.get(pool, 1)) for pool, amount in self._held[project_id].items())
        return max(parts, default=0.0) / self._rules.weight(project_id)


def _fair(jobs: Sequence[Waiting], shares: _Shares) -> list[Waiting]:
    """Who has least goes next, and what they take counts at once. Ties: the project that waits longest."""
    queues: dict[str, list[Waiting]] = defaultdict(list)
    for job in jobs:
        queues[job.project_id].append(job)
    turn = dict.fromkeys(queues, 0)
    heap = [(shares.of(name), queue[0].queued_at, name) for name, queue in queues.items()]
    heapq.heapify(heap)
    result: list[Waiting] = []
    while heap:
        _, _, name = heapq.heappop(heap)
        job = queues[name][turn[name]]
        result.append(job)
        shares.add(name, job.demand)
        turn[name] += 1
        if turn[name] < len(queues[name]):
            heapq.heappush(heap, (shares.of(name), queues[name][turn[name]].queued_at, name))
    return result


@dataclass(frozen=True)
class Go:
    """Let this job go."""

    job_id: str
    reason: str


@dataclass(frozen=True)
class Stay:
    """This job waits on. `until_at`: when enough is free for it at the latest, where that is known."""

    job_id: str
    reason: str
    until_at: datetime | None = None


@dataclass
class _Reservation:
    """What is kept for the first job of a pool that does not fit."""

    starts_at: datetime
    spare: int


def decide(
    order: Sequence[Waiting],
    holding: Sequence[Holding],
    capacity: Mapping[Pool, int],
    rules: Rules,
    now_at: datetime,
) -> list[Go | Stay]:
    """Who may go now, and why the others stay; one answer for each job, in their order.

    A pool that is not in `capacity` has nothing. Running it again after the jobs went lets nobody else go.
    """
    free = {pool: capacity[pool] - _held(holding, pool) for pool in capacity}
    cards: dict[str, float] = defaultdict(float)
    for one in holding:
        cards[one.project_id] += one.demand.gpu_count()
    reserved: dict[Pool, _Reservation] = {}
    gone: list[Holding] = []
    answers: list[Go | Stay] = []
    for job in order:
        pool, amount = job.demand.pool, job.demand.amount
        quota = (rules.quotas or {}).get(job.project_id)
        if quota is not None and cards[job.project_id] + job.demand.gpu_count() > quota:
            answers.append(Stay(job.job_id, f"project {job.project_id} holds its quota of {quota:g} GPUs"))
            continue
        answer = _one(job, free.get(pool, 0), reserved.get(pool), capacity.get(pool, 0), now_at)
        if isinstance(answer, Go):
            free[pool] -= amount
            cards[job.project_id] += job.demand.gpu_count()
            gone.append(Holding(job.job_id, job.project_id, job.demand, _end(job, now_at)))
            reservation = reserved.get(pool)
            if reservation is not None and _end(job, now_at) > reservation.starts_at:
                reservation.spare -= amount
        elif pool not in reserved and amount <= capacity.get(pool, 0):
            reserved[pool] = _reserve(job, [*holding, *gone], capacity[pool])
            answer = Stay(answer.job_id, answer.reason, reserved[pool].starts_at)
        answers.append(answer)
    return answers


def anybody_fits(waiting: Iterable[Waiting], holding: Sequence[Holding], capacity: Mapping[Pool, int]) -> bool:
    """Whether anybody finds enough free; where nobody does, `decide` lets nobody go in any order."""
    free = {pool: capacity[pool] - _held(holding, pool) for pool in capacity}
    return any(job.demand.amount <= free.get(job.demand.pool, 0) for job in waiting)


def _one(job: Waiting, free: int, reservation: _Reservation | None, in_all: int, now_at: datetime) -> Go | Stay:
    amount, name = job.demand.amount, job.demand.pool.name
    if amount > in_all:
        return Stay(job.job_id, f"it wants {amount} of {name}, and there are {in_all} in all now")
    if amount > free:
        return Stay(job.job_id, f"it wants {amount} of {name}, and {free} are free")
    if reservation is None:
        return Go(job.job_id, f"its turn, and {free} of {name} are free")
    if _end(job, now_at) <= reservation.starts_at:
        return Go(job.job_id, "backfill: it ends before the first in the queue can start")
    if amount <= reservation.spare:
        return Go(job.job_id, "backfill: it takes what the first in the queue does not need")
    return Stay(job.job_id, f"{free} of {name} are kept for the first in the queue")


def _reserve(job: Waiting, holding: Sequence[Holding], in_all: int) -> _Reservation:
    """When enough is free for `job` at the latest, and what is left over then."""
    pool = job.demand.pool
    mine = sorted((one for one in holding if one.demand.pool == pool), key=lambda one: one.ends_at)
    free = in_all - sum(one.demand.amount for one in mine)
    for one in mine:
        free += one.demand.amount
        if free >= job.demand.amount:
            # Whoever ends at the same instant is free then, too.
            also = sum(x.demand.amount for x in mine if x.ends_at == one.ends_at and mine.index(x) > mine.index(one))
            return _Reservation(one.ends_at, free + also - job.demand.amount)
    raise AssertionError("a job that is no larger than its pool fits when all have ended")


def _held(holding: Sequence[Holding], pool: Pool) -> int:
    return sum(one.demand.amount for one in holding if one.demand.pool == pool)


def _end(job: Waiting, now_at: datetime) -> datetime:
    return now_at + timedelta(seconds=job.most_seconds)
