"""A week of GPU jobs, and nodes that come and go for them (`cost_fixed_cluster` has those that stay).

Pure and seeded. What is assumed stands in `Assumptions`, each figure with where it is from; none was
chosen by looking at what comes out.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from helpers.domain.cost.held import Segment, WholeCards
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.watchdog.recommendation import percentile

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
NEVER = 10 * WEEK_SECONDS


@dataclass(frozen=True)
class Assumptions:
    """The reference's figures where it has one (ADR-094), else a plain guess that says so."""

    jobs_per_month: int = 500  # its success metric
    boot_seconds: int = 180  # its "node ready < 3 minutes"
    empty_seconds: int = 600  # its ttlSecondsAfterEmpty
    checkpoint_seconds: int = 900  # its 15 minutes
    spot_retries_count: int = 3  # its "up to 3x", then on demand
    preemptible_ratio: float = 0.7  # its 70/30
    cards_limit: int = 64  # its NodePool's limit, here of each pool
    wait_p95_seconds: int = 600  # its metric; a fixed cluster is as large as keeps it
    spot_ends_per_hour: float = 0.05  # a guess: a spot node lives 20 hours on average
    workday_weight: float = 3.0  # a guess: Monday to Friday 8 to 20 UTC against the nights
    weekend_weight: float = 0.5  # a guess
    longest_hours: int = 24  # its max_duration_hours
    spread_sigma: float = 1.0  # a guess: durations are log-normal around the kind's middle


@dataclass(frozen=True)
class Kind:
    """Jobs of one sort. The shares, sizes and middle durations are guesses along the reference's list of uses."""

    gpu: str
    node_cards: int
    share: float
    sizes: tuple[int, ...]
    middle_hours: float


KINDS = (
    Kind("T4_16GB", 1, 0.50, (1,), 1.0),  # batch inference
    Kind("L40S_48GB", 1, 0.20, (1,), 2.0),  # inference
    Kind("A100_80GB", 8, 0.25, (1, 1, 2, 4), 4.0),  # training
    Kind("H100_80GB", 8, 0.05, (8,), 6.0),  # large training
)


@dataclass
class Work:
    """One job; `left_seconds` shrinks by what checkpoints kept."""

    name: str
    kind: Kind
    cards: int
    arrives_at: int
    preemptible: bool
    work_seconds: int
    left_seconds: int = 0
    preempted_count: int = 0
    redone_seconds: int = 0
    began_at: int | None = None
    ended_at: int | None = None

    def __post_init__(self) -> None:
        self.left_seconds = self.work_seconds


def week_of_work(seed: int, assumed: Assumptions) -> list[Work]:
    """Jobs in the order of their arrival."""
    random = Random(seed)  # noqa: S311 - a simulation, not a secret
    weights = [_weight(hour, assumed) for hour in range(7 * 24)]
    count = round(assumed.jobs_per_month * 7 / 30)
    hours = random.choices(range(7 * 24), weights, k=count)
    arrivals = sorted(hour * 3600 + random.randrange(3600) for hour in hours)
    return [_job(random, f"job-{number}", at, assumed) for number, at in enumerate(arrivals)]


def _weight(hour: int, assumed: Assumptions) -> float:
    day, clock = divmod(hour, 24)
    if day >= 5:
        return assumed.weekend_weight
    return assumed.workday_weight if 8 <= clock < 20 else 1.0


def _job(random: Random, name: str, at: int, assumed: Assumptions) -> Work:
    (kind,) = random.choices(KINDS, [one.share for one in KINDS])
    seconds = random.lognormvariate(math.log(kind.middle_hours * 3600), assumed.spread_sigma)
    seconds = min(max(60, round(seconds)), assumed.longest_hours * 3600)
    return Work(name, kind, random.choice(kind.sizes), at, random.random() < assumed.preemptible_ratio, seconds)


@dataclass
class Node:
    """A machine; `runs` by job name."""

    name: str
    kind: Kind
    capacity_type: CapacityType
    from_at: int
    ready_at: int
    runs: dict[str, Run] = field(default_factory=dict)
    empty_since: int | None = None
    to_at: int | None = None

    @property
    def free_cards(self) -> int:
        """Cards that no job holds."""
        return self.kind.node_cards - sum(run.work.cards for run in self.runs.values())


@dataclass
class Run:
    """A job on a node, from when it begins (the node may still boot)."""

    work: Work
    node: Node
    from_at: int


@dataclass(frozen=True)
class Lived:
    """What came of it: who held what, and which nodes were paid for."""

    works: tuple[Work, ...]
    nodes: tuple[Segment, ...]
    held: tuple[Segment, ...]

    def wait_p95_seconds(self) -> int:
        """From arrival to the first start, the 95th percentile."""
        return percentile(sorted((work.began_at or NEVER) - work.arrives_at for work in self.works), 0.95) or 0


class Autoscaled:
    """Nodes come when a job has no place and go when they were empty for a while."""

    def __init__(self, works: Sequence[Work], assumed: Assumptions, random: Random, *, spot: bool) -> None:
        self._works = tuple(works)
        self._assumed = assumed
        self._random = random
        self._spot = spot
        self._nodes: list[Node] = []
        self._gone: list[Node] = []
        self._waiting: list[Work] = []
        self._held: list[Segment] = []
        self._order = itertools.count()
        self._events: list[tuple[int, int, str, Work | Run | Node]] = []
        for work in self._works:
            self._at(work.arrives_at, "arrives", work)

    def live(self) -> Lived:
        """Until the last job has ended and the last node has gone."""
        while self._events:
            now, _, event, subject = heapq.heappop(self._events)
            if isinstance(subject, Work):
                self._waiting.append(subject)
            elif isinstance(subject, Run):
                self._ends(subject, now)
            elif event == "taken":
                self._taken(subject, now)
            else:
                self._empty(subject, now)
            self._waiting = [work for work in self._waiting if not self._placed(work, now)]
        return Lived(self._works, tuple(self._node_segment(node) for node in self._gone), tuple(self._held))

    def _at(self, at: int, event: str, subject: Work | Run | Node) -> None:
        heapq.heappush(self._events, (at, next(self._order), event, subject))

    def _placed(self, work: Work, now: int) -> bool:
        on_spot = self._spot and work.preemptible and work.preempted_count <= self._assumed.spot_retries_count
        node = self._free_node(work, on_spot=on_spot) or self._new_node(work, now, on_spot=on_spot)
        if node is None:
            return False
        run = Run(work, node, max(now, node.ready_at))
        node.runs[work.name], node.empty_since = run, None
        self._at(run.from_at + work.left_seconds, "ends", run)
        return True

    def _free_node(self, work: Work, *, on_spot: bool) -> Node | None:
        """The fullest that fits, spot before on demand."""
        fitting = [
            node
            for node in self._nodes
            if node.kind is work.kind
            and node.free_cards >= work.cards
            and (on_spot or node.capacity_type is CapacityType.ON_DEMAND)
        ]
        return min(
            fitting, key=lambda node: (node.capacity_type is not CapacityType.SPOT, node.free_cards), default=None
        )

    def _new_node(self, work: Work, now: int, *, on_spot: bool) -> Node | None:
        there = sum(node.kind.node_cards for node in self._nodes if node.kind is work.kind)
        if there + work.kind.node_cards > self._assumed.cards_limit:
            return None
        capacity_type = CapacityType.SPOT if on_spot else CapacityType.ON_DEMAND
        name = f"node-{next(self._order)}"
        node = Node(name, work.kind, capacity_type, now, now + self._assumed.boot_seconds)
        self._nodes.append(node)
        if on_spot:
            lives_seconds = self._random.expovariate(self._assumed.spot_ends_per_hour) * 3600
            self._at(now + math.ceil(lives_seconds), "taken", node)
        return node

    def _ends(self, run: Run, now: int) -> None:
        if run.node.runs.get(run.work.name) is not run:
            return  # it was preempted before
        run.work.left_seconds, run.work.ended_at = 0, now
        self._leaves(run, now)
        if not run.node.runs:
            run.node.empty_since = now
            self._at(now + self._assumed.empty_seconds, "empty", run.node)

    def _leaves(self, run: Run, now: int) -> None:
        del run.node.runs[run.work.name]
        if now > run.from_at:
            if run.work.began_at is None:
                run.work.began_at = run.from_at
            self._held.append(_segment(run.work, run.node.capacity_type, run.from_at, now))

    def _taken(self, node: Node, now: int) -> None:
        if node.to_at is not None:
            return
        self._close(node, now)
        for run in list(node.runs.values()):
            done_seconds = max(0, now - run.from_at)
            kept_seconds = done_seconds - done_seconds % self._assumed.checkpoint_seconds
            run.work.left_seconds -= kept_seconds
            run.work.redone_seconds += done_seconds - kept_seconds
            run.work.preempted_count += 1
            self._leaves(run, now)
            self._waiting.append(run.work)

    def _empty(self, node: Node, now: int) -> None:
        since = node.empty_since
        if node.to_at is None and since is not None and now - since >= self._assumed.empty_seconds:
            self._close(node, now)

    def _close(self, node: Node, now: int) -> None:
        node.to_at = now
        self._nodes.remove(node)
        self._gone.append(node)

    def _node_segment(self, node: Node) -> Segment:
        cards = WholeCards(node.kind.node_cards)
        end_at = instant(node.to_at or node.from_at)
        return Segment(
            node.name, "nodes", None, node.kind.gpu, cards, node.capacity_type, instant(node.from_at), end_at
        )


def _segment(work: Work, capacity_type: CapacityType, from_at: int, to_at: int) -> Segment:
    cards = WholeCards(work.cards)
    return Segment(work.name, "jobs", None, work.kind.gpu, cards, capacity_type, instant(from_at), instant(to_at))


def instant(at: int) -> datetime:
    """The simulation's second as an instant."""
    return START + timedelta(seconds=at)


def described(assumed: Assumptions) -> dict[str, object]:
    """The assumptions, for the printed line."""
    return {**asdict(assumed), "kinds": [asdict(kind) for kind in KINDS]}
