"""Whose turn it is, who may go, and what keeps everybody from starving."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.jobs.gpus import Demand, Pool
from helpers.domain.jobs.ordering import (
    Go,
    Holding,
    Policy,
    Rules,
    Stay,
    Waiting,
    anybody_fits,
    decide,
    effective_rank,
    ordered,
)
from helpers.domain.jobs.spec import Priority
from tests.fakes.jobs import A100, NOON, after, holding, waiting

T4 = Pool("T4", 16)
FIFO, PRIORITY, FAIR = (Rules(policy) for policy in Policy)


def ids(jobs: list[Waiting]) -> list[str]:
    return [job.job_id for job in jobs]


def who_goes(answers: list[Go | Stay]) -> list[str]:
    return [answer.job_id for answer in answers if isinstance(answer, Go)]


def test_fifo_heeds_nothing_but_age() -> None:
    jobs = [
        waiting("late", queued_at=after(9), priority=Priority.HIGH),
        waiting("b", queued_at=after(1)),
        waiting("a", queued_at=after(1), priority=Priority.LOW),
    ]
    assert ids(ordered(jobs, [], {A100: 8}, FIFO, after(10))) == ["a", "b", "late"]


def test_high_goes_before_medium_before_low() -> None:
    jobs = [waiting(p.value, priority=p, queued_at=after(p.rank)) for p in reversed(Priority)]
    assert ids(ordered(jobs, [], {A100: 8}, PRIORITY, after(10))) == ["high", "medium", "low"]


def test_a_low_job_rises_with_every_four_hours() -> None:
    low = waiting("low", priority=Priority.LOW)
    ranks = [effective_rank(low, after(hours * 3600), 4 * 3600) for hours in (0, 3.9, 4, 8, 100)]
    assert ranks == [2, 2, 1, 0, 0]
    urgent = waiting("urgent", priority=Priority.HIGH, queued_at=after(8 * 3600))
    assert ids(ordered([urgent, low], [], {A100: 8}, PRIORITY, after(8 * 3600))) == ["low", "urgent"]


def test_who_holds_less_goes_next_by_weight() -> None:
    jobs = [waiting(f"{project}{n}", project, queued_at=after(n)) for project in "ab" for n in range(4)]
    rules = Rules(Policy.FAIR_SHARE, weights={"a": 3.0, "b": 1.0})
    order = ids(ordered(jobs, [], {A100: 8}, rules, after(10)))
    assert Counter(name[0] for name in order[:4]) == {"a": 3, "b": 1}
    busy = ids(ordered(jobs, [holding("x", "a", 6)], {A100: 8}, rules, after(10)))
    assert busy[:2] == ["b0", "b1"]


def test_a_share_is_of_the_pool_of_which_a_project_holds_most() -> None:
    held = [Holding("x", "a", Demand(T4, 1), after(60)), holding("y", "b", 4)]
    jobs = [waiting("b", "b"), waiting("a", "a", queued_at=after(1))]
    assert ids(ordered(jobs, held, {A100: 16, T4: 2}, FAIR, after(2))) == ["b", "a"]  # 1/2 of the T4s, 1/4 of the A100s


def test_a_gang_goes_whole_or_not() -> None:
    gang = waiting("gang", demand=Demand(A100, 1, workers=8))
    assert who_goes(decide([gang], [holding("x", gpus=1)], {A100: 8}, FAIR, NOON)) == []
    assert who_goes(decide([gang], [], {A100: 8}, FAIR, NOON)) == ["gang"]


def test_a_short_job_passes_a_large_one_only_where_it_does_not_delay_it() -> None:
    held = [holding("x", gpus=6, ends_at=after(3600))]
    large = waiting("large", gpus=8)
    queue = [large, waiting("long", most_seconds=3601), waiting("short", most_seconds=3600), waiting("short2")]
    answers = decide(queue, held, {A100: 8}, FAIR, NOON)
    assert who_goes(answers) == ["short", "short2"]
    assert isinstance(answers[0], Stay)
    assert answers[0].until_at == after(3600)
    assert "kept for the first" in answers[1].reason


def test_what_the_first_will_not_need_may_be_taken_for_long() -> None:
    held = [holding("x", gpus=6, ends_at=after(60))]
    queue = [waiting("large", gpus=7), waiting("long", most_seconds=9e5), waiting("long2", most_seconds=9e5)]
    assert who_goes(decide(queue, held, {A100: 8}, FAIR, NOON)) == ["long"]


def test_pools_do_not_wait_for_each_other() -> None:
    queue = [waiting("large", gpus=9), waiting("other", demand=Demand(T4, 1)), waiting("small")]
    answers = decide(queue, [], {A100: 8, T4: 1}, FAIR, NOON)
    assert who_goes(answers) == ["other", "small"]  # what is larger than its pool keeps nobody back
    assert answers[0] == Stay("large", "it wants 9 of A100_80GB, and there are 8 in all now")


def test_a_project_stops_at_its_quota_and_keeps_nobody_back() -> None:
    rules = Rules(Policy.FAIR_SHARE, quotas={"vision": 2})
    queue = [waiting("a", gpus=2), waiting("b"), waiting("c", "text", gpus=6)]
    answers = decide(queue, [], {A100: 8}, rules, NOON)
    assert who_goes(answers) == ["a", "c"]
    assert answers[1] == Stay("b", "project vision holds its quota of 2 GPUs")


JOBS = st.lists(
    st.builds(
        lambda project, gpus, priority, age, most: (project, gpus, priority, age, most),
        st.sampled_from("abcd"),
        st.integers(1, 8),
        st.sampled_from(Priority),
        st.integers(0, 36000),
        st.integers(60, 7200),
    ),
    max_size=25,
)


def queue_of(rows: list[tuple[str, int, Priority, int, int]]) -> list[Waiting]:
    return [
        waiting(f"j{n}", project, gpus, priority=priority, queued_at=after(age), most_seconds=float(most))
        for n, (project, gpus, priority, age, most) in enumerate(rows)
    ]


@given(JOBS, st.sampled_from(Policy), st.randoms())
def test_an_order_has_everybody_once_and_does_not_depend_on_theirs(
    rows: list[tuple[str, int, Priority, int, int]], policy: Policy, random: object
) -> None:
    queue = queue_of(rows)
    order = ids(ordered(queue, [], {A100: 8}, Rules(policy), after(36000)))
    assert sorted(order) == sorted(ids(queue))
    shuffled = sorted(queue, key=lambda job: hash((job.job_id, id(random))))
    assert ids(ordered(shuffled, [], {A100: 8}, Rules(policy), after(36000))) == order


@given(JOBS, st.integers(0, 8), st.sampled_from(Policy))
def test_what_goes_fits_and_a_second_look_lets_nobody_else_go(
    rows: list[tuple[str, int, Priority, int, int]], held: int, policy: Policy
) -> None:
    now_at, rules = after(36000), Rules(policy)
    has = [holding("x", "a", held, after(37000))] if held else []
    order = ordered(queue_of(rows), has, {A100: 8}, rules, now_at)
    answers = decide(order, has, {A100: 8}, rules, now_at)
    assert [answer.job_id for answer in answers] == ids(order)
    gone = [job for job in order if job.job_id in who_goes(answers)]
    assert held + sum(job.demand.amount for job in gone) <= 8
    now_has = has + [
        Holding(job.job_id, job.project_id, job.demand, now_at + timedelta(seconds=job.most_seconds)) for job in gone
    ]
    rest = [job for job in order if job not in gone]
    assert anybody_fits(order, has, {A100: 8}) or not gone
    assert who_goes(decide(rest, now_has, {A100: 8}, rules, now_at)) == []


@given(JOBS, st.integers(1, 8))
@settings(max_examples=60)
def test_the_first_job_starts_no_later_than_it_was_told(
    rows: list[tuple[str, int, Priority, int, int]], gpus: int
) -> None:
    """The queue is let run under FIFO with a large job in front, everybody using the whole of their time."""
    queue = [waiting("first", gpus=gpus, queued_at=NOON - timedelta(hours=1)), *queue_of(rows)]
    now_at: datetime = after(36000)
    running = [holding("x", gpus=5, ends_at=now_at + timedelta(seconds=1000))]
    promised: datetime | None = None
    for _ in range(100):
        answers = decide(ordered(queue, running, {A100: 8}, FIFO, now_at), running, {A100: 8}, FIFO, now_at)
        first = next(answer for answer in answers if answer.job_id == "first")
        if isinstance(first, Go):
            assert promised is None or now_at <= promised
            return
        assert first.until_at is not None
        assert promised is None or first.until_at <= promised
        promised = first.until_at
        going = set(who_goes(answers))
        running += [
            Holding(job.job_id, job.project_id, job.demand, now_at + timedelta(seconds=job.most_seconds))
            for job in queue
            if job.job_id in going
        ]
        queue = [job for job in queue if job.job_id not in going]
        now_at = min(one.ends_at for one in running)
        running = [one for one in running if one.ends_at > now_at]
    pytest.fail("the first job starved")


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 5.0, "b": 1.0}])
def test_over_a_run_projects_get_their_shares_within_five_percent(weights: dict[str, float]) -> None:
    rules = Rules(Policy.FAIR_SHARE, weights=weights)
    queue = [waiting(f"{project}{n}", project, most_seconds=600.0) for project in "ab" for n in range(400)]
    running: list[Holding] = []
    held_count: Counter[str] = Counter()
    now_at = NOON
    for _ in range(40):
        order = ordered(queue, running, {A100: 12}, rules, now_at)
        going = set(who_goes(decide(order, running, {A100: 12}, rules, now_at)))
        end_at = now_at + timedelta(seconds=600)
        running = [holding(j.job_id, j.project_id, ends_at=end_at) for j in queue if j.job_id in going]
        queue = [job for job in queue if job.job_id not in going]
        held_count.update(one.project_id for one in running)
        now_at += timedelta(seconds=600)
        running = []
    total = sum(weights.values())
    assert held_count["a"] / held_count.total() == pytest.approx(weights["a"] / total, abs=0.05)
