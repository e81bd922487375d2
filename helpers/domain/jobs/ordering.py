"""Whose turn it is.

Three policies give an order; `decide` says who of it may go now. What keeps a job from starving:

1. **Aging.** For every `aging_seconds` of waiting a job counts as one priority higher, so that no
   stream of urgent jobs keeps a low one back for ever.
2. **A reservation for whoever is first and does not fit** (EASY backfill), of spot nodes and of on-demand
   ones apart, and by node: eight free cards on two nodes are none for a worker that wants eight. Jobs behind
   it may only go where they do not move its start: they end, by their own enforced limit, before its nodes
   have enough for it, or take what it will not need there, or are kept off these nodes. Every running job
   has such a limit, so the start is finite.
3. **All or nothing.** A job is let go with all its workers or not at all.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from helpers.domain.jobs.gpus import Demand, Pool
from helpers.domain.jobs.room import Floor, Nodes, PoolRooms, Room, Seats
from helpers.domain.jobs.spec import Priority


class Policy(StrEnum):
    """How a queue is ordered."""

    FIFO = "fifo"
    PRIORITY = "priority"
    FAIR_SHARE = "fair_share"


@dataclass(frozen=True)
class Waiting:
    """A job that waits.

    `most_seconds`: how long it may run at most, which somebody enforces. `spot`: on spot capacity alone, else never
    on it; None: either.
    """

    job_id: str
    project_id: str
    priority: Priority
    queued_at: datetime
    demand: Demand
    most_seconds: float
    spot: bool | None = None


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
    """Let this job go.

    `avoids`: nodes that it would take from whoever is first. `on_demand`: it asks for spot capacity, and no spot node
    could ever hold it, so it goes with on-demand.
    """

    job_id: str
    reason: str
    avoids: frozenset[str] = frozenset()
    on_demand: bool = False


@dataclass(frozen=True)
class Stay:
    """This job waits on.

    `until_at`: when enough is free for it at the latest, where that is known. `lacks_room`: enough is free for it
    now, but on too many nodes.
    """

    job_id: str
    reason: str
    until_at: datetime | None = None
    lacks_room: bool = False


def decide(
    order: Sequence[Waiting],
    holding: Sequence[Holding],
    capacity: Mapping[Pool, int],
    rules: Rules,
    now_at: datetime,
    rooms: Mapping[Pool, PoolRooms] | None = None,
) -> list[Go | Stay]:
    """Who may go now, and why the others stay; one answer for each job, in their order.

    A pool that is not in `capacity` has nothing. Running it again after the jobs went lets nobody else go.

    Args:
        order: All that wait, whose turn is first in front.
        holding: Who has GPUs.
        capacity: `{pool: cards, instances or MiB in all}`.
        rules: For the quotas.
        now_at: Now.
        rooms: `{pool: its nodes}`; a pool that is missing is taken for one node.
    """
    floors = _floors(holding, capacity, rooms or {})
    nothing = Floor(PoolRooms(()), {})
    for floor in floors.values():
        floor.keep_unseated(now_at)
    cards: dict[str, float] = defaultdict(float)
    for one in holding:
        cards[one.project_id] += one.demand.gpu_count()
    # Spot and on-demand nodes are not the same: of each the first that does not fit has its own reservation.
    reserved: set[tuple[Pool, bool | None]] = set()
    answers: list[Go | Stay] = []
    for job in order:
        quota = (rules.quotas or {}).get(job.project_id)
        if quota is not None and cards[job.project_id] + job.demand.gpu_count() > quota:
            answers.append(Stay(job.job_id, f"project {job.project_id} holds its quota of {quota:g} GPUs"))
            continue
        floor = floors.get(job.demand.pool, nothing)
        seats = seats_of(job, floor)
        answer = _one(job, seats, floor, _end(job, now_at))
        if isinstance(answer, Go):
            cards[job.project_id] += job.demand.gpu_count()
            floor.take(replace(seats, avoids=answer.avoids), _end(job, now_at))
        elif (job.demand.pool, seats.spot) not in reserved and floor.holds(seats):
            reserved.add((job.demand.pool, seats.spot))
            answer = replace(answer, until_at=floor.keep(seats, job.most_seconds, now_at))
        answers.append(answer)
    return answers


def anybody_fits(
    waiting: Iterable[Waiting],
    holding: Sequence[Holding],
    capacity: Mapping[Pool, int],
    rooms: Mapping[Pool, PoolRooms] | None = None,
) -> bool:
    """Whether anybody finds enough free; where nobody does, `decide` lets nobody go in any order."""
    floors = _floors(holding, capacity, rooms or {})
    nothing = Floor(PoolRooms(()), {})
    found = ((floors.get(job.demand.pool, nothing), job) for job in waiting)
    return any(floor.lacking_count(seats_of(job, floor)) == 0 for floor, job in found)


_WHERE = {None: "", True: " on spot capacity", False: " on on-demand capacity"}


def pools_of(
    holding: Sequence[Holding], capacity: Mapping[Pool, int], rooms: Mapping[Pool, PoolRooms]
) -> dict[Pool, PoolRooms]:
    """Every pool's nodes; one whose nodes are not known is taken for one node, of whatever capacity."""
    held: dict[Pool, dict[str, int]] = defaultdict(dict)
    for one in holding:
        held[one.demand.pool][one.job_id] = one.demand.amount
    alone = {pool: PoolRooms((Room(amount, None, held[pool]),)) for pool, amount in capacity.items()}
    return alone | dict(rooms)


def _floors(
    holding: Sequence[Holding], capacity: Mapping[Pool, int], rooms: Mapping[Pool, PoolRooms]
) -> dict[Pool, Floor]:
    ends = {one.job_id: one.ends_at for one in holding}
    return {pool: Floor(found, ends) for pool, found in pools_of(holding, capacity, rooms).items()}


def seats_of(job: Waiting, nodes: Nodes) -> Seats:
    """What it takes: on spot nodes, where it asks for those and they could ever hold it; else on others."""
    asked = Seats(job.demand.worker_amount, job.demand.workers, job.spot)
    if job.spot and not nodes.holds(asked):
        otherwise = replace(asked, spot=False)
        return otherwise if nodes.holds(otherwise) else asked
    return asked


def _one(job: Waiting, seats: Seats, floor: Floor, ends_at: datetime) -> Go | Stay:
    amount, name, where = job.demand.amount, job.demand.pool.name, _WHERE[seats.spot]
    lacking_count = floor.lacking_count(seats)
    if lacking_count:
        in_all = floor.in_all(seats)
        if amount > in_all:
            return Stay(job.job_id, f"it wants {amount} of {name}, and there are {in_all} in all now{where}")
        free = floor.free(seats)
        if amount > free:
            return Stay(job.job_id, f"it wants {amount} of {name}, and {free} are free{where}")
        text = f"{lacking_count} of its {seats.count} workers find no node with {seats.amount} of {name} free{where}"
        return Stay(job.job_id, text, lacks_room=True)
    detour = floor.detour(seats, ends_at)
    if detour is None:
        return Stay(job.job_id, f"{floor.free(seats)} of {name} are kept for the first in the queue")
    reason = f"its turn, and {floor.free(seats)} of {name} are free{where}"
    if detour:
        reason = f"backfill: it leaves {', '.join(sorted(detour))} to the first in the queue"
    elif floor.keeps_from_before(ends_at):
        reason = "backfill: it takes what the first in the queue does not need"
    elif floor.keeps:
        reason = "backfill: it ends before the first in the queue can start"
    return Go(job.job_id, reason, detour, on_demand=bool(job.spot) and not seats.spot)


def _end(job: Waiting, now_at: datetime) -> datetime:
    return now_at + timedelta(seconds=job.most_seconds)
