"""When a demand gate opens, when it closes, and what becomes of its lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers.domain.demand_gates.decision import FREED_SECONDS, UNLEASED_SECONDS, GateReason, GateVerdict, decide
from helpers.domain.demand_gates.facts import GateFacts, GateTimers, WorkloadFacts
from helpers.domain.demand_gates.rules import GateRule
from tests.fakes.gates import gate_facts, gate_rule
from tests.fakes.lanes import EVENING, NIGHT, NOON

RUNS = WorkloadFacts(1, 1)
CLOSED = WorkloadFacts(0, 0)
ENDING = WorkloadFacts(0, 1)


def judge(rule: GateRule, *looks: GateFacts, timers: GateTimers | None = None) -> tuple[GateVerdict, GateTimers]:
    """What the last of several looks comes to."""
    timers = timers or GateTimers()
    for facts in looks:
        verdict, timers = decide(rule, facts, timers)
    return verdict, timers


CASES: dict[str, tuple[GateFacts, GateReason, str | None, str]] = {
    "room and a use: the lease is asked for first": (gate_facts(), GateReason.LEASE, None, "take"),
    "a lease that is queued is waited for": (gate_facts(lease="queued"), GateReason.LEASE, None, "take"),
    "a lease that nobody here asked for belongs to an end": (
        gate_facts(lease="granted"),
        GateReason.ENDING,
        None,
        "keep",
    ),
    "too little memory": (gate_facts(free_mib=6279), GateReason.MEMORY, None, "none"),
    "too little memory any more, while it queued": (
        gate_facts(free_mib=6279, lease="queued"),
        GateReason.MEMORY,
        None,
        "give_back",
    ),
    "just enough memory": (gate_facts(free_mib=6280), GateReason.LEASE, None, "take"),
    "free memory is not known": (gate_facts(free_mib=None), GateReason.UNKNOWN, None, "none"),
    "no job": (gate_facts(demand_count=0), GateReason.NO_DEMAND, None, "none"),
    "jobs are not known": (gate_facts(demand_count=None), GateReason.UNKNOWN, None, "none"),
    "the book does not answer": (gate_facts(lease=None), GateReason.UNKNOWN, None, "none"),
    "outside its window": (gate_facts(now_at=NOON), GateReason.WINDOW, None, "none"),
    "its pod still ends": (gate_facts(ENDING), GateReason.ENDING, None, "none"),
    "its pod still ends, and holds what was leased": (
        gate_facts(ENDING, lease="granted"),
        GateReason.ENDING,
        None,
        "keep",
    ),
    "released by a person": (gate_facts(WorkloadFacts(0, 0, True)), GateReason.RELEASED, None, "none"),
    "released by a person while it runs": (
        gate_facts(WorkloadFacts(0, 1, True), lease="granted"),
        GateReason.RELEASED,
        None,
        "keep",
    ),
    "released and scaled up by hand": (
        gate_facts(WorkloadFacts(1, 1, True), now_at=NOON),
        GateReason.RELEASED,
        None,
        "none",
    ),
    "scaled to three by a person": (
        gate_facts(WorkloadFacts(3, 3), now_at=NOON),
        GateReason.FOREIGN,
        None,
        "keep",
    ),
    "runs with its lease": (gate_facts(RUNS, lease="granted", free_mib=2000), GateReason.OPEN, None, "keep"),
    "runs without a lease: asked for afterwards": (gate_facts(RUNS, free_mib=2000), GateReason.OPEN, None, "take"),
    "runs, and the window ends": (gate_facts(RUNS, lease="granted", now_at=NOON), GateReason.WINDOW, "close", "keep"),
    "runs, and others press": (
        gate_facts(RUNS, lease="granted", free_mib=1023),
        GateReason.MEMORY,
        "close",
        "keep",
    ),
    "runs at the very edge": (gate_facts(RUNS, lease="granted", free_mib=1024), GateReason.OPEN, None, "keep"),
    "runs, and no job is left": (
        gate_facts(RUNS, lease="granted", demand_count=0),
        GateReason.NO_DEMAND,
        "close",
        "keep",
    ),
    "runs, and nothing is known": (
        gate_facts(RUNS, lease=None, free_mib=None, demand_count=None),
        GateReason.OPEN,
        None,
        "take",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_look(name: str) -> None:
    facts, reason, act, lease = CASES[name]
    verdict, _ = decide(gate_rule(lane="batch", windows=[NIGHT]), facts, GateTimers())
    assert (verdict.reason, verdict.act, verdict.lease) == (reason, act, lease)
    assert verdict.text


def test_a_workload_that_is_not_there_is_said() -> None:
    verdict, _ = decide(gate_rule(), replace(gate_facts(), workload=None), GateTimers())
    assert (verdict.reason, verdict.act) == (GateReason.MISSING, None)
    assert "Deployment ai-dev/training is not there" in verdict.text


def test_it_opens_once_the_lease_that_it_asked_for_is_granted() -> None:
    verdict, timers = judge(gate_rule(), gate_facts(), gate_facts(lease="queued"), gate_facts(lease="granted"))
    assert (verdict.act, verdict.reason) == ("open", GateReason.OPEN)
    # Overtaken at the first try: it still may, with the same lease, as long as its need is there.
    assert decide(gate_rule(), gate_facts(lease="granted", free_mib=5000), timers)[0].act == "open"
    assert decide(gate_rule(), gate_facts(lease="granted", free_mib=4999), timers)[0].reason is GateReason.MEMORY


def test_the_use_that_goes_before_it_opened_takes_the_lease_along() -> None:
    verdict, timers = judge(gate_rule(lane="batch"), gate_facts(), gate_facts(lease="granted", demand_count=0))
    assert (verdict.reason, verdict.act, verdict.lease) == (GateReason.NO_DEMAND, None, "keep")
    later = gate_facts(lease="granted", demand_count=0, now_seconds=1000 + FREED_SECONDS)
    assert decide(gate_rule(lane="batch"), later, timers)[0].lease == "give_back"


def test_it_opens_only_after_there_has_been_room_for_a_while() -> None:
    rule = gate_rule(open_after_seconds=30)
    verdict, timers = judge(rule, gate_facts(), gate_facts(now_seconds=1029.9))
    assert verdict.reason is GateReason.SETTLING
    assert decide(rule, gate_facts(now_seconds=1030), timers)[0].lease == "take"
    # One look with too little begins the wait anew; one that saw nothing does not.
    verdict, timers = judge(rule, gate_facts(), gate_facts(now_seconds=1010, free_mib=6000))
    assert judge(rule, gate_facts(now_seconds=1031), timers=timers)[0].reason is GateReason.SETTLING
    verdict, timers = judge(rule, gate_facts(), gate_facts(now_seconds=1010, free_mib=None))
    assert judge(rule, gate_facts(now_seconds=1031), timers=timers)[0].lease == "take"


@pytest.mark.parametrize(
    ("bad", "good"), [({"free_mib": 500}, {"free_mib": 2000}), ({"demand_count": 0}, {"demand_count": 3})]
)
def test_a_short_dip_does_not_close_it(bad: dict[str, Any], good: dict[str, Any]) -> None:
    rule = gate_rule(lane="batch", close_after_seconds=60)

    def at(seconds: float, **fields: Any) -> GateFacts:
        return gate_facts(RUNS, lease="granted", now_seconds=1000 + seconds, **fields)

    assert judge(rule, at(0, **bad), at(59, **bad))[0].act is None
    assert judge(rule, at(0, **bad), at(60, **bad))[0].act == "close"
    assert judge(rule, at(0, **bad), at(30, **good), at(60, **bad), at(119, **bad))[0].act is None


def test_what_is_unknown_at_last_closes_nothing() -> None:
    rule = gate_rule(lane="batch", close_after_seconds=60)
    first = gate_facts(RUNS, lease="none", free_mib=500, demand_count=0)
    later = gate_facts(RUNS, lease=None, free_mib=None, demand_count=None, now_seconds=2000)
    assert judge(rule, first, later)[0].act is None


def test_a_lease_that_was_lost_is_asked_for_again_before_the_workload_goes() -> None:
    lost = [gate_facts(RUNS, free_mib=2000, now_seconds=1000 + s) for s in (0, UNLEASED_SECONDS - 1, UNLEASED_SECONDS)]
    assert judge(gate_rule(), *lost[:2])[0].lease == "take"
    verdict, _ = judge(gate_rule(), *lost)
    assert (verdict.act, verdict.reason) == ("close", GateReason.LEASE)


def closing() -> tuple[GateRule, GateTimers]:
    """Its window ended with 500 MiB free."""
    rule = gate_rule(windows=[NIGHT])
    verdict, timers = judge(rule, gate_facts(RUNS, lease="granted", free_mib=500, now_at=NOON))
    assert verdict.act == "close"
    return rule, timers


@pytest.mark.parametrize(
    ("after", "lease"),
    [
        (gate_facts(ENDING, lease="granted", free_mib=9000), "keep"),
        (gate_facts(CLOSED, lease="granted", free_mib=500), "keep"),
        (gate_facts(CLOSED, lease="granted", free_mib=None), "keep"),
        (gate_facts(CLOSED, lease="granted", free_mib=501), "give_back"),
    ],
)
def test_the_lease_goes_back_when_the_pod_has_gone_and_the_card_shows_it(after: GateFacts, lease: str) -> None:
    rule, timers = closing()
    assert decide(rule, after, timers)[0].lease == lease


def test_memory_that_somebody_else_took_at_once_keeps_no_lease_for_ever() -> None:
    rule, timers = closing()
    looks = [gate_facts(CLOSED, lease="granted", free_mib=400, now_seconds=1001 + s) for s in (0, FREED_SECONDS)]
    assert judge(rule, *looks, timers=timers)[0].lease == "give_back"


def test_it_does_not_open_again_on_the_lease_of_its_end() -> None:
    rule, timers = closing()
    verdict, timers = judge(rule, gate_facts(CLOSED, lease="granted", now_at=EVENING, free_mib=500), timers=timers)
    assert (verdict.reason, verdict.act) == (GateReason.ENDING, None)
    verdict, timers = judge(rule, gate_facts(CLOSED, lease="granted", free_mib=8000), timers=timers)
    assert (verdict.act, verdict.lease) == (None, "give_back")
    assert decide(rule, gate_facts(CLOSED), timers)[0].lease == "take"
