"""The simulated week's rules, on a few jobs whose every second can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from bench.cost_fixed_cluster import fixed_nodes, fixed_waits
from bench.cost_simulation import check_books, one_week
from bench.cost_world import START, Assumptions, Autoscaled, Kind, Lived, Work, week_of_work
from helpers.domain.cost.held import Segment, WholeCards, charges
from helpers.domain.cost.price_history import history_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.estate.prices import Prices

T4, A100 = Kind("T4_16GB", 1, 1.0, (1,), 1.0), Kind("A100_80GB", 8, 1.0, (1,), 1.0)
HOUR = 3600
CALM = replace(Assumptions(), spot_ends_per_hour=1e-9)


def work(name: str, at: int, hours: float, kind: Kind = T4, cards: int = 1, *, preemptible: bool = True) -> Work:
    return Work(name, kind, cards, at, preemptible, round(hours * HOUR))


def live(works: list[Work], assumed: Assumptions = CALM, *, spot: bool = True) -> Lived:
    return Autoscaled(works, assumed, Random(1), spot=spot).live()  # noqa: S311


def spans(segments: tuple[Segment, ...]) -> list[tuple[str, int, int]]:
    """Capacity type, from and to, in seconds of the week."""
    ends = [one.to_at for one in segments]
    seconds = [(one.from_at - START, (end or START) - START) for one, end in zip(segments, ends, strict=True)]
    return [
        (one.capacity_type.value, int(begin.total_seconds()), int(end.total_seconds()))
        for one, (begin, end) in zip(segments, seconds, strict=True)
    ]


def test_a_node_boots_works_and_goes_after_ten_empty_minutes() -> None:
    lived = live([work("a", 0, 1)])
    assert spans(lived.held) == [("spot", 180, 3780)]
    assert spans(lived.nodes) == [("spot", 0, 4380)]
    assert lived.wait_p95_seconds() == 180


def test_a_job_within_ten_minutes_finds_the_node_still_there_and_one_after_them_does_not() -> None:
    soon = live([work("a", 0, 1), work("b", 3780 + 599, 1)])
    assert len(soon.nodes) == 1
    late = live([work("a", 0, 1), work("b", 3780 + 601, 1)])
    assert len(late.nodes) == 2


def test_a_job_that_may_not_be_preempted_is_on_demand_and_leaves_room_for_one_that_may() -> None:
    lived = live([work("a", 0, 1, A100, 4, preemptible=False), work("b", 60, 1, A100, 4)])
    assert {one.capacity_type for one in lived.nodes} == {CapacityType.ON_DEMAND}
    assert len(lived.nodes) == 1


def test_a_full_pool_makes_the_next_job_wait() -> None:
    lived = live([work("a", 0, 1), work("b", 0, 1)], replace(CALM, cards_limit=1))
    assert [(one.name, one.began_at, one.ended_at) for one in lived.works] == [("a", 180, 3780), ("b", 3780, 7380)]


def test_a_preempted_job_loses_what_no_checkpoint_kept_and_after_three_times_is_on_demand() -> None:
    stormy = replace(Assumptions(), spot_ends_per_hour=2.0)
    lived = live([work("a", 0, 10)], stormy)
    (one,) = lived.works
    assert one.preempted_count == 4
    assert [kind for kind, _, _ in spans(lived.held)] == ["spot"] * 4 + ["on-demand"]
    held_seconds = sum(end - begin for _, begin, end in spans(lived.held))
    assert held_seconds == 10 * HOUR + one.redone_seconds
    assert 0 < one.redone_seconds < 4 * 900


@pytest.mark.parametrize(
    ("nodes_count", "waits"),
    [(1, [0, 3600, 5400]), (2, [0, 0, 1800]), (3, [0, 0, 0])],  # three hours' work, begun at 0, 0 and half past
)
def test_a_fixed_cluster_serves_first_come_first_served(nodes_count: int, waits: list[int]) -> None:
    works = [work("a", 0, 1), work("b", 0, 1), work("c", 1800, 1)]
    assert fixed_waits(works, T4, nodes_count) == waits
    assert fixed_nodes(works, T4, 600) == 3
    assert fixed_nodes(works, A100, 600) == 0


def test_a_job_of_many_cards_waits_for_them_and_those_behind_it_wait_too() -> None:
    works = [work("a", 0, 1, A100, 4), work("b", 0, 2, A100, 8), work("c", 0, 1, A100, 1)]
    assert fixed_waits(works, A100, 1) == [0, 3600, 10_800]


def test_a_seed_is_a_week_and_its_books_close() -> None:
    assert week_of_work(3, Assumptions()) == week_of_work(3, Assumptions())
    assert week_of_work(3, Assumptions()) != week_of_work(4, Assumptions())
    found = one_week(3, Assumptions())
    assert found == one_week(3, Assumptions())
    assert found["paid_usd"] > 0
    assert 0 < found["idle_cost_ratio"] < 1
    assert found["recovered_count"] == found["preempted_jobs_count"]


def test_books_that_do_not_close_are_an_error_and_no_figure() -> None:
    never = Lived((work("a", 0, 1),), (), ())
    with pytest.raises(AssertionError, match=r"jobs that never ended: \['a'\]"):
        check_books(never, never, [], [])
    ended = live([work("a", 0, 1)])
    history = history_of(Prices())
    held = list(charges(ended.held, history, START, START + timedelta(days=1)))
    with pytest.raises(AssertionError, match="a node is missing in the record"):
        check_books(ended, ended, [], held)
    assert ended.held[0].quantity == WholeCards(1)
