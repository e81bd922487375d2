"""Whose turn it is where cards are on nodes: spot and on-demand apart, and nobody starves for want of a whole node."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.jobs.gpus import Demand
from helpers.domain.jobs.ordering import Go, Holding, Policy, Rules, Stay, Waiting, anybody_fits, decide
from helpers.domain.jobs.room import PoolRooms, Room, Seats
from tests.fakes.jobs import A100, NOON, after, holding, waiting

FIFO = Rules(Policy.FIFO)
DAY_SECONDS = 86400.0


def decided(
    queue: list[Waiting], rooms: list[Room], holds: list[Holding], unplaced: dict[str, Seats] | None = None
) -> dict[str, Go | Stay]:
    capacity = {A100: sum(room.amount * room.count for room in rooms)}
    answers = decide(queue, holds, capacity, FIFO, NOON, {A100: PoolRooms(rooms, unplaced or {})})
    assert [answer.job_id for answer in answers] == [job.job_id for job in queue]
    return {answer.job_id: answer for answer in answers}


def test_a_job_that_waits_for_spot_keeps_no_on_demand_card_back() -> None:
    """The spot node is full for a day, and eight on-demand cards are free."""
    holds = [holding("x", gpus=8, ends_at=after(DAY_SECONDS))]
    rooms = [Room(8, spot=True, held={"x": 8}), Room(8, spot=False)]
    queue = [waiting("first", gpus=8, spot=True), *(waiting(f"j{n}", spot=False, most_seconds=9e9) for n in range(9))]
    found = decided(queue, rooms, holds)
    assert found["first"] == Stay("first", "it wants 8 of A100_80GB, and 0 are free on spot capacity", after(86400))
    assert [isinstance(found[f"j{n}"], Go) for n in range(9)] == [True] * 8 + [False]


def test_each_capacity_has_a_reservation_of_its_own() -> None:
    rooms = [Room(8, spot=True, held={"x": 1}), Room(8, spot=False, held={"y": 1})]
    holds = [holding("x", ends_at=after(60)), holding("y", ends_at=after(90))]
    queue = [
        waiting("spot", gpus=8, spot=True),
        waiting("on-demand", gpus=8, spot=False),
        *(
            waiting(f"{word}-{end}", spot=word == "spot", most_seconds=end)
            for word in ("spot", "other")
            for end in (60, 90)
        ),
    ]
    found = decided(queue, rooms, holds)
    assert (found["spot"].until_at, found["on-demand"].until_at) == (after(60), after(90))  # type: ignore[union-attr]
    assert [name for name, answer in found.items() if isinstance(answer, Go)] == ["spot-60", "other-60", "other-90"]


def test_a_job_that_finds_no_whole_node_has_one_kept() -> None:
    """Eight of sixteen are free, four on each node. The first node is whole in an hour."""
    rooms = [Room(8, held={"x": 4}, name="a"), Room(8, held={"y": 4}, name="b")]
    holds = [holding("x", gpus=4, ends_at=after(3600)), holding("y", gpus=4, ends_at=after(7200))]
    queue = [waiting("first", gpus=8), waiting("short"), waiting("long", gpus=4, most_seconds=3601.0)]
    found = decided([*queue, waiting("late", most_seconds=3601.0)], rooms, holds)
    text = "1 of its 1 workers find no node with 8 of A100_80GB free"
    assert found["first"] == Stay("first", text, after(3600), lacks_room=True)
    assert found["short"] == Go("short", "backfill: it ends before the first in the queue can start")
    # Four of the other node are nobody's; the short one may be put there.
    assert found["long"] == Stay("long", "7 of A100_80GB are kept for the first in the queue")
    assert found["late"] == Go("late", "backfill: it leaves a to the first in the queue", frozenset("a"))


def test_a_node_that_is_not_made_yet_is_kept_by_letting_nobody_go_for_long() -> None:
    rooms = [Room(8, held={"x": 1}, name="a"), Room(8)]
    holds = [holding("x", ends_at=after(9e5))]
    queue = [waiting("first", demand=Demand(A100, 8, workers=2)), waiting("other", most_seconds=1e6)]
    found = decided(queue, rooms, holds)
    assert found["other"].reason == "15 of A100_80GB are kept for the first in the queue"


def test_what_is_on_no_node_yet_may_be_put_on_the_kept_one() -> None:
    rooms = [Room(8, held={"x": 4}, name="a"), Room(8, held={"y": 4}, name="b")]
    holds = [holding(name, gpus=4, ends_at=after(end)) for name, end in (("x", 60), ("y", 90))]
    found = decided([waiting("first", gpus=8)], rooms, [*holds, holding("z", ends_at=after(75))], {"z": Seats(1, 1)})
    assert found["first"].until_at == after(75)  # type: ignore[union-attr]


def test_a_machine_that_may_be_either_is_kept_once() -> None:
    rooms = [Room(8, spot=True, held={"x": 1}), Room(8, spot=False, held={"y": 1}), Room(8, spot=None)]
    holds = [holding("x", ends_at=after(60)), holding("y", ends_at=after(30))]
    queue = [waiting(f"{spot}", demand=Demand(A100, 8, workers=2), spot=spot) for spot in (True, False)]
    found = decided(queue, rooms, holds)
    assert [one.until_at for one in found.values()] == [after(60), after(3660)]  # type: ignore[union-attr]


def test_a_job_that_no_spot_node_can_ever_hold_goes_with_on_demand() -> None:
    """Its turn is that of an on-demand job."""
    rooms = [Room(4, spot=True), Room(8, spot=False)]
    found = decided([waiting("wide", gpus=8, spot=True), waiting("small", spot=False)], rooms, [])
    assert found["wide"] == Go("wide", "its turn, and 8 of A100_80GB are free on on-demand capacity", on_demand=True)
    assert isinstance(found["small"], Stay)


def test_who_was_forestalled_on_its_node_comes_before_all_that_wait() -> None:
    """It was let go, and somebody else's pod took a card of its node."""
    rooms = [Room(8, held={"x": 1}, name="a"), Room(8, held={"y": 1}, name="b")]
    holds = [holding("x", ends_at=after(60)), holding("y", ends_at=after(90)), holding("gone", gpus=8)]
    queue = [waiting("first", most_seconds=DAY_SECONDS)]
    found = decided(queue, rooms, holds, {"gone": Seats(8, 1)})
    assert found["first"] == Go("first", "backfill: it leaves a to the first in the queue", frozenset("a"))


# A node: on spot capacity or not, and who is on it already: `(cards of eight, when it ends)`.
HELD = st.lists(st.tuples(st.integers(1, 3), st.integers(100, 3000)), min_size=1, max_size=2)
NODES = st.lists(st.tuples(st.sampled_from([False, False, True]), HELD), min_size=2, max_size=4)
ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.sampled_from([False, False, True]), st.integers(60, 7200)),
    min_size=4,
    max_size=20,
)


class Cluster:
    """Nodes, and a scheduler that puts each pod wherever it likes."""

    def __init__(self, nodes: list[tuple[bool, list[tuple[int, int]]]], data: Any) -> None:
        self._nodes = [(f"n{n}", 8, spot) for n, (spot, _) in enumerate(nodes)]
        self._data = data
        self.running: list[Holding] = []
        self._pods: list[tuple[str, str, int]] = []
        for n, (_, held) in enumerate(nodes):
            for m, (cards, end) in enumerate(held):
                self.running.append(holding(f"x{n}-{m}", gpus=cards, ends_at=after(end)))
                self._pods.append((f"x{n}-{m}", f"n{n}", cards))

    def rooms(self) -> list[Room]:
        held: dict[str, Counter[str]] = defaultdict(Counter)
        for job_id, node, amount in self._pods:
            held[node][job_id] += amount
        return [Room(amount, spot, held[name], name) for name, amount, spot in self._nodes]

    def place(self, job_id: str, seats: Seats) -> bool:
        """All its pods or none: some other way to place those before it may have left it no room."""
        before = list(self._pods)
        for _ in range(seats.count):
            found = [room for room in self.rooms() if room.amount - sum(room.held.values()) >= seats.amount]
            fitting = [room.name for room in found if seats.may_be_on(room)]
            if not fitting:
                self._pods = before
                return False
            self._pods.append((job_id, self._data.draw(st.sampled_from(fitting)), seats.amount))
        return True

    def next_end(self) -> datetime:
        """It is so late now."""
        now_at = min(one.ends_at for one in self.running)
        over = {one.job_id for one in self.running if one.ends_at <= now_at}
        self._pods = [pod for pod in self._pods if pod[0] not in over]
        self.running = [one for one in self.running if one.job_id not in over]
        return now_at


@given(NODES, ROWS, st.integers(1, 2), st.data())
@settings(max_examples=100, deadline=None)
def test_the_first_job_starts_when_it_was_told_wherever_pods_are_put(
    nodes: list[tuple[bool, list[tuple[int, int]]]], rows: list[tuple[int, int, bool, int]], workers: int, data: Any
) -> None:
    """A job that wants whole nodes is first, others come behind it, and everybody uses the whole of their time."""
    spot = nodes[0][0]
    workers = min(workers, sum(is_spot is spot for is_spot, _ in nodes))
    first = waiting("first", demand=Demand(A100, 8, workers), spot=spot)
    queue = [first] + [
        waiting(f"j{n}", demand=Demand(A100, gpus, count), spot=is_spot, most_seconds=float(most))
        for n, (gpus, count, is_spot, most) in enumerate(rows)
    ]
    cluster, capacity = Cluster(nodes, data), {A100: 8 * len(nodes)}
    now_at, promised = NOON, None
    for _ in range(200):
        rooms = {A100: PoolRooms(cluster.rooms())}
        answers = decide(queue, cluster.running, capacity, FIFO, now_at, rooms)
        going = [(job, one) for job, one in zip(queue, answers, strict=True) if isinstance(one, Go)]
        assert anybody_fits(queue, cluster.running, capacity, rooms) or not going
        if isinstance(answers[0], Go):
            assert promised is None or now_at <= promised
            return
        told = answers[0].until_at
        assert told is not None
        assert promised is None or told <= promised
        promised = told
        for job, go in going:
            if cluster.place(job.job_id, Seats(job.demand.worker_amount, job.demand.workers, job.spot, go.avoids)):
                queue.remove(job)
                ends_at = now_at + timedelta(seconds=job.most_seconds)
                cluster.running.append(Holding(job.job_id, job.project_id, job.demand, ends_at))
        now_at = cluster.next_end()
    pytest.fail("the first job starved")
