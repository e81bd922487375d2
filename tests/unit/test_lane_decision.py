"""Which queue is paused, resumed or left alone, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.lanes.decision import (
    Decision,
    Forget,
    LaneReason,
    NoAction,
    Pause,
    Refuse,
    Resume,
    decide,
    judge_lanes,
)
from helpers.domain.lanes.facts import QueueFacts, Situation
from helpers.domain.lanes.settings import CoordinatorSettings
from tests.fakes.lanes import EVENING, NOON, mark, queue, rule, settings, situation

IDLE = queue("realtime")
WORKING = queue("realtime", active_count=1)


def batch_of(now: Situation, declared: CoordinatorSettings | None = None) -> Decision:
    (decision,) = (one for one in decide(declared or settings(), now)[1] if one.queue == "ai-batch")
    return decision


def test_batch_is_paused_as_soon_as_realtime_works() -> None:
    decision = batch_of(situation(WORKING, queue("batch", wait_count=9)))
    assert decision == Pause(
        "ai-batch", "batch", "5", LaneReason.YIELDS, "realtime has 1 active; 4608 + 4608 > 5120 MiB"
    )


def test_a_waiting_realtime_job_is_reason_enough() -> None:
    assert isinstance(batch_of(situation(queue("realtime", wait_count=1), queue("batch"))), Pause)
    assert isinstance(batch_of(situation(queue("realtime", prioritized_count=1), queue("batch"))), Pause)


def test_a_delayed_realtime_job_is_none() -> None:
    assert isinstance(batch_of(situation(queue("realtime", delayed_count=5), queue("batch"))), NoAction)


def test_batch_comes_back_when_realtime_has_settled_and_not_earlier() -> None:
    paused = queue("batch", paused=True, mark=mark("batch"))
    just_now = situation(IDLE, paused, busy_seconds={"realtime": 995.1})
    assert isinstance(batch_of(just_now), NoAction)
    verdict = judge_lanes(settings(), just_now)[1]
    assert verdict.settled_at_seconds == pytest.approx(1000.1)
    settled = batch_of(situation(IDLE, paused, busy_seconds={"realtime": 995.0}))
    assert settled == Resume("ai-batch", "batch", "5", "nobody before it is busy")


def test_batch_stays_paused_in_working_hours_however_quiet_it_is() -> None:
    decision = batch_of(situation(IDLE, queue("batch"), now_at=NOON))
    assert isinstance(decision, Pause)
    assert decision.reason is LaneReason.WINDOW
    assert decision.text == "outside its windows until 2026-11-25T17:00:00+00:00"


def test_a_queue_that_a_person_paused_stays_paused_and_does_not_become_ours() -> None:
    for now_at in (NOON, EVENING):
        decision = batch_of(situation(IDLE, queue("batch", paused=True), now_at=now_at))
        assert isinstance(decision, NoAction)
        assert decision.foreign


def test_a_realtime_queue_that_a_person_paused_asks_for_nothing() -> None:
    still = queue("realtime", paused=True, paused_count=7)
    assert isinstance(batch_of(situation(still, queue("batch"))), NoAction)


def test_the_mark_of_a_coordinator_that_died_is_as_good_as_our_own() -> None:
    paused = queue("batch", paused=True, mark=mark("batch", holder="one that died"))
    assert isinstance(batch_of(situation(IDLE, paused)), Resume)


def test_a_mark_without_a_pause_is_forgotten_once_the_pause_cannot_arrive_any_more() -> None:
    seen = queue("batch", mark=mark("batch", confirmed=True))
    assert isinstance(batch_of(situation(IDLE, seen)), Forget)
    unanswered = queue("batch", mark=mark("batch", confirmed=False))
    assert isinstance(batch_of(situation(IDLE, unanswered)), NoAction)
    later = situation(IDLE, unanswered, now_at=EVENING + timedelta(seconds=61))
    assert isinstance(batch_of(later), Forget)


def test_an_application_that_resumes_by_itself_in_working_hours_is_paused_again() -> None:
    assert isinstance(batch_of(situation(IDLE, queue("batch", mark=mark("batch")), now_at=NOON)), Pause)


def test_a_card_that_is_away_closes_batch_and_says_why() -> None:
    decision = batch_of(situation(IDLE, queue("batch"), away={"ollama": "no answer for 12 s"}))
    assert isinstance(decision, Pause)
    assert (decision.reason, decision.text) == (LaneReason.AWAY, "no answer for 12 s")
    verdict = judge_lanes(settings(), situation(IDLE, away={"ollama": "x"}))[0]
    assert (verdict.open, verdict.reason) == (False, LaneReason.AWAY)


def test_a_lane_waits_until_another_model_has_left_the_memory() -> None:
    decision = batch_of(situation(IDLE, queue("batch"), held={"batch": "gemma4 leaves the memory"}))
    assert isinstance(decision, Pause)
    assert decision.reason is LaneReason.MEMORY


def test_lanes_that_fit_side_by_side_do_not_wait_for_each_other() -> None:
    small = settings(rule("realtime", "realtime", vram_mib=4608), rule("batch", vram_mib=512))
    assert isinstance(batch_of(situation(WORKING, queue("batch")), small), NoAction)


def test_what_the_server_reports_counts_more_than_what_the_estate_says() -> None:
    lanes = settings(
        rule("realtime", "realtime", vram_mib=2000, model="big"), rule("batch", vram_mib=2000, model="small")
    )
    now = situation(WORKING, queue("batch"))
    assert isinstance(batch_of(now, lanes), NoAction)
    assert isinstance(batch_of(replace(now, measured_mib={"big": 3500}), lanes), Pause)


def test_lanes_of_other_tenants_do_not_meet() -> None:
    lanes = settings(rule("realtime", "realtime", tenant="vllm"), rule("batch"))
    assert isinstance(batch_of(situation(WORKING, queue("batch")), lanes), NoAction)


def test_among_batch_lanes_the_higher_priority_goes_first_and_a_running_job_is_waited_for() -> None:
    lanes = settings(rule("urgent", priority=10), rule("batch"))
    asks = situation(queue("urgent", wait_count=1), queue("batch"))
    first, second = decide(lanes, asks)[1]
    assert isinstance(first, NoAction)
    assert isinstance(second, Pause)
    runs = situation(queue("urgent", wait_count=1), queue("batch", active_count=1))
    first, second = decide(lanes, runs)[1]
    assert isinstance(first, Pause)
    assert first.text.startswith("batch has 1 active")
    assert isinstance(second, Pause)


def test_a_lane_that_its_window_keeps_back_does_not_keep_back_others() -> None:
    lanes = settings(rule("urgent", priority=10, windows=settings().lanes[1].lane.windows), rule("batch"))
    now = situation(queue("urgent", wait_count=5), queue("batch"), now_at=NOON)
    assert isinstance(batch_of(now, lanes), NoAction)


def test_realtime_queues_and_queues_of_no_lane_are_never_decided_on() -> None:
    now = situation(replace(WORKING, paused=True), queue("batch"), QueueFacts("rfa-reminders", wait_count=3))
    assert {one.queue for one in decide(settings(), now)[1]} == {"ai-batch"}


def test_a_queue_that_was_not_read_is_not_decided_on() -> None:
    assert decide(settings(), situation(IDLE))[1] == ()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (queue("batch", version="bullmq:4.18.3"), "4"),
        (queue("batch", version="bullmq:5.81.5"), "5"),
        (queue("batch", version="bullmq:6.7.0"), "6"),
    ],
)
def test_the_client_is_the_applications_own_major(facts: QueueFacts, expected: str) -> None:
    decision = batch_of(situation(WORKING, facts))
    assert isinstance(decision, Pause)
    assert decision.client == expected


@pytest.mark.parametrize(
    ("facts", "declared", "why"),
    [
        (queue("batch", version="", wait_count=1), None, "no version in meta.version"),
        (queue("batch", version="bullmq:7.0.0"), None, "only BullMQ 4, 5 and 6 are known"),
        (queue("batch", version="bullmq-pro:7.1.0"), None, "only BullMQ 4, 5 and 6 are known"),
        (queue("batch", version="bullmq:5.81.5"), 6, "the estate says bullmq_major: 6"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_reason(facts: QueueFacts, declared: int | None, why: str) -> None:
    lanes = settings(rule("realtime", "realtime"), rule("batch", bullmq_major=declared))
    decision = batch_of(situation(WORKING, facts), lanes)
    assert isinstance(decision, Refuse)
    assert why in decision.text


def test_an_application_without_a_version_is_paused_as_the_estate_says() -> None:
    lanes = settings(rule("realtime", "realtime"), rule("batch", bullmq_major=5))
    decision = batch_of(situation(WORKING, queue("batch", version="", wait_count=1)), lanes)
    assert isinstance(decision, Pause)
    assert decision.client == "5"


def test_a_queue_split_over_both_lists_is_only_touched_by_the_client_that_joins_them() -> None:
    """With major 5 the RENAME of a resume would wipe `wait` out."""
    split = queue("batch", paused=True, mark=mark("batch"), wait_count=2, paused_count=3)
    decision = batch_of(situation(IDLE, split))
    assert isinstance(decision, Resume)
    assert decision.client == "6"


def test_a_queue_that_nobody_has_used_yet_is_no_refusal() -> None:
    assert isinstance(batch_of(situation(WORKING, QueueFacts("ai-batch"))), NoAction)


COUNTS = st.integers(0, 3)
FACTS = st.builds(
    lambda name, paused, marked, wait, held, active: queue(
        name,
        paused=paused,
        mark=mark(name) if marked else None,
        wait_count=wait,
        paused_count=held,
        active_count=active,
    ),
    st.sampled_from(["realtime", "urgent", "batch"]),
    st.booleans(),
    st.booleans(),
    COUNTS,
    COUNTS,
    COUNTS,
)
LANES = settings(
    rule("realtime", "realtime"), rule("urgent", priority=5), rule("batch", windows=settings().lanes[1].lane.windows)
)


def after(now: Situation, decisions: tuple[Decision, ...]) -> Situation:
    """The situation once every decision was carried out."""
    queues = dict(now.queues)
    for decision in decisions:
        facts = queues[decision.queue]
        match decision:
            case Pause():
                queues[facts.queue] = replace(facts, paused=True, mark=mark(decision.lane))
            case Resume() | Forget():
                queues[facts.queue] = replace(facts, paused=False, mark=None)
    return replace(now, queues=queues)


@given(st.lists(FACTS, max_size=3), st.sampled_from([NOON, EVENING]), st.none() | st.floats(990, 1000))
def test_what_was_done_needs_not_be_done_again(facts: list[QueueFacts], now_at: object, busy: float | None) -> None:
    busy_seconds = {} if busy is None else {"realtime": busy}
    now = situation(*facts, now_at=now_at, busy_seconds=busy_seconds)
    verdicts, decisions = decide(LANES, now)
    then = after(now, decisions)
    again_verdicts, again = decide(LANES, then)
    assert [one.open for one in again_verdicts] == [one.open for one in verdicts]
    assert not any(isinstance(one, Pause | Resume | Forget) for one in again)


@given(st.lists(FACTS, max_size=3), st.sampled_from([NOON, EVENING]))
def test_nothing_is_resumed_that_carries_no_mark_of_ours(facts: list[QueueFacts], now_at: object) -> None:
    now = situation(*facts, now_at=now_at)
    for decision in decide(LANES, now)[1]:
        if isinstance(decision, Resume):
            assert now.queues[decision.queue].mark is not None


@given(st.permutations([queue("realtime", active_count=1), queue("urgent", wait_count=1), queue("batch")]))
def test_the_order_in_which_queues_are_read_changes_nothing(facts: list[QueueFacts]) -> None:
    assert decide(LANES, situation(*facts)) == decide(LANES, situation(*sorted(facts, key=lambda one: one.queue)))


def test_settings_survive_being_mounted_as_a_document() -> None:
    declared = settings()
    assert CoordinatorSettings.model_validate_json(declared.to_json()) == declared
