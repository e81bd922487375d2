"""What stops a job, what it is warned of, and how it goes on after an interruption; estimates of its start."""

from __future__ import annotations

from decimal import Decimal

import pytest

from helpers.domain.jobs.estimates import Durations, Expected, estimates
from helpers.domain.jobs.limits import Limit, LimitRules, Sample, Stop, Warn, check_limits
from helpers.domain.jobs.preemption import after_preemption, checkpoint_due, first_capacity
from helpers.domain.jobs.room import PoolRooms, Room, Seats
from helpers.domain.jobs.states import JobStatus
from helpers.domain.watchdog.recommendation import Confidence
from tests.fakes.jobs import A100, NOON, after, holding, job, spec, waiting

RULES = LimitRules()
RUNNING = job(status=JobStatus.RUNNING, started_at=NOON, spec=spec(max_duration_hours=10, budget_limit_usd=100))


def samples(ratio: float | None, minutes: int, step_seconds: int = 60) -> list[Sample]:
    return [Sample(after(second), ratio) for second in range(0, minutes * 60 + 1, step_seconds)]


def busy(minutes: int) -> list[Sample]:
    return samples(0.9, minutes)


def test_a_job_is_warned_once_and_then_stopped_at_its_duration() -> None:
    assert check_limits(RUNNING, None, [], RULES, after(7.9 * 3600)) == ()
    (warning,) = check_limits(RUNNING, None, [], RULES, after(8 * 3600))  # type: ignore[misc]
    assert warning == Warn(Limit.DURATION, "it has held its GPUs for 8.00 h of max_duration_hours 10")
    warned = job(status=JobStatus.RUNNING, started_at=NOON, spec=RUNNING.spec, warned=("max_duration",))
    assert check_limits(warned, None, [], RULES, after(9 * 3600)) == ()
    stop = check_limits(warned, None, [], RULES, after(10 * 3600))
    assert isinstance(stop, Stop)
    assert stop.limit is Limit.DURATION


def test_past_attempts_count_and_the_estates_limit_holds_where_the_job_has_none() -> None:
    again = job(status=JobStatus.RUNNING, started_at=after(23 * 3600), held_seconds=23 * 3600)
    assert isinstance(check_limits(again, None, [], RULES, after(24 * 3600)), Stop)


@pytest.mark.parametrize(("cost", "expected"), [("79.99", None), ("80.00", Warn), ("99.99", Warn), ("100", Stop)])
def test_money_warns_at_four_fifths_and_stops_at_the_whole(cost: str, expected: type | None) -> None:
    verdict = check_limits(RUNNING, Decimal(cost), [], RULES, after(60))
    if expected is Stop:
        assert verdict == Stop(Limit.BUDGET, "it has cost 100.00 USD of budget_limit_usd 100.00")
    else:
        assert [type(one) for one in verdict] == ([expected] if expected else [])  # type: ignore[union-attr]


def test_unknown_cost_stops_nothing() -> None:
    assert check_limits(RUNNING, None, [], RULES, after(60)) == ()


def test_an_idle_job_is_warned_at_24_minutes_and_stopped_at_30() -> None:
    assert check_limits(RUNNING, None, samples(0.01, 23), RULES, after(23 * 60)) == ()
    (warning,) = check_limits(RUNNING, None, samples(0.01, 24), RULES, after(24 * 60))  # type: ignore[misc]
    assert warning.limit is Limit.IDLE
    stop = check_limits(RUNNING, None, samples(0.049, 30), RULES, after(30 * 60))
    assert stop == Stop(Limit.IDLE, "its GPUs did less than 5% for 30 min of 30")


@pytest.mark.parametrize(
    "seen",
    [
        samples(0.05, 40),
        samples(None, 40),
        [],
        samples(0.0, 40, step_seconds=121),
        [*samples(0.0, 20), Sample(after(21 * 60), None), *[Sample(after(s), 0.0) for s in range(22 * 60, 2401, 60)]],
    ],
    ids=["five percent", "unread", "none", "gaps", "unread in between"],
)
def test_what_is_unknown_is_not_idle(seen: list[Sample]) -> None:
    assert check_limits(RUNNING, None, seen, RULES, after(40 * 60)) == ()


def test_nothing_is_limited_while_it_waits_and_no_idleness_while_it_starts() -> None:
    queued = job(status=JobStatus.QUEUED, held_seconds=1e9)
    assert check_limits(queued, Decimal("1e9"), [], RULES, after(1e9)) == ()
    starting = job(status=JobStatus.PROVISIONING, started_at=NOON)
    assert check_limits(starting, None, samples(0.0, 40), RULES, after(2400)) == ()


def test_three_retries_on_spot_then_on_demand() -> None:
    capacities = [
        after_preemption(job(capacity="spot", attempt_count=n, started_at=NOON), after(60)).capacity
        for n in (1, 2, 3, 4)
    ]
    assert capacities == ["spot", "spot", "spot", "on-demand"]
    assert after_preemption(job(attempt_count=9, started_at=NOON), after(60)).capacity == "on-demand"
    assert first_capacity(spec(preemptible=True)) == "spot"
    assert first_capacity(spec()) == "on-demand"


def test_only_the_work_since_the_last_checkpoint_of_this_attempt_is_lost() -> None:
    assert after_preemption(job(started_at=NOON), after(500)).lost_seconds == 500
    assert after_preemption(job(started_at=NOON, checkpoint_at=after(300)), after(500)).lost_seconds == 200
    older = job(started_at=after(400), checkpoint_at=after(300))
    assert after_preemption(older, after(500)).lost_seconds == 100


def test_a_checkpoint_is_asked_for_every_fifteen_minutes_of_running() -> None:
    hook = spec(checkpoint={"signal": "SIGUSR1"})
    one = job(status=JobStatus.RUNNING, started_at=NOON, spec=hook)
    assert [checkpoint_due(one, after(s)) for s in (0, 899, 900)] == [False, False, True]
    told = job(status=JobStatus.RUNNING, started_at=NOON, spec=hook, checkpoint_at=after(900))
    assert [checkpoint_due(told, after(s)) for s in (1799, 1800)] == [False, True]
    assert not checkpoint_due(job(status=JobStatus.RUNNING, started_at=NOON), after(9999))
    assert not checkpoint_due(job(status=JobStatus.QUEUED, spec=hook), after(9999))


def test_a_queue_is_let_run_by_measured_durations() -> None:
    has = [holding("r", gpus=8, ends_at=after(7200))]
    queue = [waiting("a", gpus=8), waiting("b", gpus=4), waiting("c", gpus=4)]
    expected = {"r": Expected(600, True), "a": Expected(300, True)}
    found = estimates(queue, has, {"r": NOON}, expected, {A100: 8}, after(60))
    assert [found[name].position for name in "abc"] == [1, 2, 3]
    assert [found[name].starts_at for name in "abc"] == [after(600), after(900), after(900)]
    assert [found[name].confidence for name in "abc"] == [Confidence.HIGH, Confidence.HIGH, Confidence.MEDIUM]
    assert found["c"].basis == "3 before it for A100_80GB: 2 with measured durations, 1 by their limits"


def test_what_runs_longer_than_expected_may_end_at_any_moment() -> None:
    found = estimates(
        [waiting("a", gpus=8)], [holding("r", gpus=8)], {"r": NOON}, {"r": Expected(60, True)}, {A100: 8}, after(99)
    )
    assert found["a"].starts_at == after(99)


def test_no_start_is_told_where_none_is_known() -> None:
    found = estimates([waiting("a", gpus=9), waiting("b")], [], {}, {}, {A100: 8}, NOON)
    assert (found["a"].starts_at, found["a"].confidence) == (None, Confidence.NONE)
    assert (found["b"].starts_at, found["b"].confidence) == (NOON, Confidence.HIGH)
    unknown = estimates([waiting("a")], [], {}, {}, {}, NOON)["a"]
    assert (unknown.position, unknown.starts_at, unknown.confidence) == (1, None, Confidence.NONE)


def test_spot_and_on_demand_wait_for_different_nodes() -> None:
    rooms = {A100: PoolRooms([Room(8, spot=True, held={"r": 8}), Room(8)])}
    queue = [waiting("a", gpus=8, spot=True), waiting("b", spot=False), waiting("c", gpus=8, spot=False)]
    found = estimates(queue, [holding("r", gpus=8, ends_at=after(600))], {}, {}, {A100: 16}, NOON, rooms)
    assert [found[name].starts_at for name in "abc"] == [after(600), NOON, after(3600)]
    assert found["b"].basis == "nobody is before it for A100_80GB"


def test_a_wide_job_starts_when_a_node_is_whole() -> None:
    rooms = {A100: PoolRooms([Room(4), Room(8, held={"r": 4}), Room(8, held={"s": 4})], {"t": Seats(4, 1)})}
    has = [holding("r", gpus=4, ends_at=after(60)), holding("s", gpus=4, ends_at=after(90)), holding("t", gpus=4)]
    found = estimates([waiting("a", gpus=8), waiting("b", gpus=8)], has, {}, {}, {A100: 20}, NOON, rooms)
    assert [found[name].starts_at for name in "ab"] == [after(60), after(90)]
    assert found["a"].basis == "3 before it for A100_80GB: 0 with measured durations, 3 by their limits"


def test_a_start_that_rests_on_limits_is_uncertain() -> None:
    found = estimates([waiting("a", gpus=8)], [holding("r", gpus=8)], {}, {}, {A100: 8}, NOON)
    assert (found["a"].starts_at, found["a"].confidence) == (after(3600), Confidence.LOW)


def test_durations_are_the_median_of_at_least_three() -> None:
    durations = Durations()
    for seconds in (100, 900):
        durations.add("vision", "train", A100, seconds)
    assert durations.expected_seconds("vision", "train", A100) is None
    durations.add("vision", "train", A100, 200)
    assert durations.expected_seconds("vision", "train", A100) == 200
    assert durations.expected_seconds("vision", "other", A100) == 200
    assert durations.expected_seconds("text", "train", A100) is None
