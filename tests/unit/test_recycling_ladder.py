"""The ladder: hook, measure, evict, wait, delete; every rung has an end, and acts only on fresh facts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.decisions import CardState, Recycle
from helpers.domain.watchdog.facts import Outcome
from helpers.domain.watchdog.ladder import LadderState, Rung, begin, next_step
from helpers.domain.watchdog.ladder_steps import (
    Answered,
    CallHook,
    Command,
    Delete,
    Elapsed,
    Evict,
    Finish,
    Gone,
    HookAnswered,
    Measure,
    Measured,
    Observation,
    Revalidate,
    Revalidated,
    Wait,
)
from helpers.domain.watchdog.settings import WatchdogSettings
from tests.cases.recycling.world import NOW, ago, pod, settings

HOOK = ReleaseHook(port=11434, path="/api/generate", body='{"model":"m","keep_alive":0}')
BLOCKED = Answered("blocked", "Cannot evict pod as it would violate the pod's disruption budget.")


def decision(**fields: Any) -> Recycle:
    card = CardState("t4-node", "0", "GPU-0", ago(2), floor_mib=1536, free_mib=500)
    values: dict[str, Any] = {
        "card": card,
        "victim": pod("ns/over"),
        "used_mib": 6000,
        "budget_mib": 1000,
        "overshoot_mib": 5000,
        "subject_overshoot_mib": 5000,
        "dry_run": False,
        "decided_at": NOW,
    }
    return Recycle(**{**values, **fields})


class Climb:
    """Feeds observations, each `after` seconds later, and keeps the last command."""

    def __init__(self, chosen: WatchdogSettings) -> None:
        self.now = NOW
        self.state: LadderState
        self.command: Command
        self.state, self.command = begin(decision(), chosen, self.now)

    def see(self, observation: Observation, after: float = 1.0) -> Command:
        self.now += timedelta(seconds=after)
        self.state, self.command = next_step(self.state, observation, self.now)
        return self.command

    def measure(self, free_mib: int | None, used_mib: int | None, after: float = 1.0) -> Command:
        sampled_at = self.now + timedelta(seconds=after)
        return self.see(Measured(sampled_at, free_mib, used_mib), after)


def hooked(**fields: Any) -> Climb:
    return Climb(settings({"over": {"release_hook": HOOK}}, **fields))


def test_a_dry_run_has_no_ladder() -> None:
    with pytest.raises(ValueError, match="a dry run of ns/over is not carried out"):
        begin(decision(dry_run=True), settings(), NOW)


def test_without_a_hook_it_evicts_by_uid_and_reports_what_came_back() -> None:
    climb = Climb(settings())
    assert climb.command == Evict("uid-over")
    assert isinstance(climb.see(Answered("accepted")), Wait)
    assert isinstance(climb.see(Elapsed()), Wait)
    assert climb.see(Gone()) == Measure(newer_than=climb.now)
    assert climb.measure(6500, 0) == Finish(Outcome.EVICTED, 6000, "6500 MiB free")
    assert [step.rung for step in climb.state.steps] == [Rung.EVICT, Rung.GONE, Rung.MEASURE]


def test_a_hook_that_gives_back_enough_leaves_the_pod_alive() -> None:
    climb = hooked()
    assert climb.command == CallHook(HOOK, 5.0)
    assert isinstance(climb.see(HookAnswered(ok=True)), Measure)
    assert isinstance(climb.measure(500, 6000), Measure)
    finish = climb.measure(4500, 2000)
    assert finish == Finish(Outcome.RELEASED, 4000, "the release hook gave back enough")


def test_a_hook_that_brings_the_tenant_into_its_budget_ends_the_act_even_under_the_floor() -> None:
    climb = hooked()
    climb.see(HookAnswered(ok=True))
    finish = climb.measure(1000, 900)
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.RELEASED


def test_a_measurement_from_before_the_hook_answered_does_not_count() -> None:
    climb = hooked()
    climb.see(HookAnswered(ok=True))
    old = Measured(climb.now, 9000, 0)
    assert isinstance(climb.see(old), Measure)


def test_a_hook_that_frees_too_little_in_its_time_leads_to_eviction_after_revalidation() -> None:
    climb = hooked()
    climb.see(HookAnswered(ok=True))
    assert isinstance(climb.measure(900, 5600, after=11), Revalidate)
    assert climb.see(Revalidated(valid=True)) == Evict("uid-over")
    climb.see(Answered("accepted"))
    climb.see(Gone())
    assert climb.measure(6500, 0) == Finish(Outcome.EVICTED, 6000, "6500 MiB free")
    assert [step.freed_mib for step in climb.state.steps if step.freed_mib is not None] == [400, 5600]


@pytest.mark.parametrize("observation", [HookAnswered(ok=False, text="503"), Elapsed()])
def test_a_failed_or_silent_hook_leads_to_revalidation(observation: Observation) -> None:
    climb = hooked()
    assert isinstance(climb.see(observation, after=6), Revalidate)


def test_unknown_after_the_hook_never_evicts_by_itself() -> None:
    climb = hooked()
    climb.see(HookAnswered(ok=True))
    assert isinstance(climb.measure(None, None, after=11), Revalidate)
    finish = climb.see(Revalidated(valid=False, text="the exporter marks this card's sample as failed"))
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.FAILED
    assert finish.freed_mib is None


def test_a_decision_that_no_longer_stands_after_the_hook_is_a_release() -> None:
    climb = hooked()
    climb.see(HookAnswered(ok=True))
    climb.measure(1400, 5100, after=11)
    finish = climb.see(Revalidated(valid=False, text="enough_free"))
    assert finish == Finish(Outcome.RELEASED, 900, "enough_free")


def test_a_disruption_budget_is_waited_out_and_each_try_is_revalidated() -> None:
    climb = Climb(settings())
    assert climb.see(BLOCKED) == Wait(5.0)
    assert isinstance(climb.see(Elapsed(), after=5), Revalidate)
    assert climb.see(Revalidated(valid=True)) == Evict("uid-over")
    assert climb.see(Answered("blocked", "", retry_after_seconds=10)) == Wait(10)
    assert isinstance(climb.see(Elapsed(), after=10), Revalidate)
    assert climb.see(Revalidated(valid=True)) == Evict("uid-over")
    assert isinstance(climb.see(Answered("accepted")), Wait)


def test_a_tenant_back_in_its_budget_while_429_is_waited_out_is_left_alone() -> None:
    climb = Climb(settings())
    climb.see(BLOCKED)
    climb.see(Elapsed(), after=5)
    finish = climb.see(Revalidated(valid=False, text="no_offender_within_the_rules"))
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.BLOCKED


def blocked_for_ever(climb: Climb) -> Command:
    for _ in range(40):
        if isinstance(climb.command, Evict):
            climb.see(BLOCKED)
        elif isinstance(climb.command, Wait):
            climb.see(Elapsed(), after=climb.command.seconds)
        elif isinstance(climb.command, Revalidate) and climb.state.next_act is Rung.EVICT:
            climb.see(Revalidated(valid=True))
        else:
            return climb.command
    pytest.fail("the ladder never ends")


def test_a_disruption_budget_that_never_yields_ends_the_act_field_fault_11() -> None:
    climb = Climb(settings())
    finish = blocked_for_ever(climb)
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.BLOCKED
    assert "never yielded" in finish.text
    assert climb.now - NOW <= timedelta(seconds=90)


def test_deletion_is_only_the_estates_choice_and_is_revalidated_too() -> None:
    climb = Climb(settings(allow_delete=True, on_blocked="delete"))
    assert isinstance(blocked_for_ever(climb), Revalidate)
    assert climb.see(Revalidated(valid=True)) == Delete("uid-over")
    climb.see(Answered("accepted"))
    climb.see(Gone())
    assert climb.measure(6500, 0) == Finish(Outcome.DELETED, 6000, "6500 MiB free")


def test_deletion_that_is_merely_allowed_is_not_chosen() -> None:
    finish = blocked_for_ever(Climb(settings(allow_delete=True)))
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.BLOCKED


def test_choosing_deletion_without_allowing_it_is_refused() -> None:
    with pytest.raises(ValueError, match="on_blocked: delete needs allow_delete: true"):
        settings(on_blocked="delete")


def test_an_api_that_only_fails_never_leads_to_deletion() -> None:
    climb = Climb(settings(allow_delete=True, on_blocked="delete"))
    for _ in range(40):
        if isinstance(climb.command, Evict):
            climb.see(Answered("failed", "500"))
        elif isinstance(climb.command, Wait):
            climb.see(Elapsed(), after=climb.command.seconds)
        elif isinstance(climb.command, Revalidate):
            climb.see(Revalidated(valid=True))
    assert isinstance(climb.command, Finish)
    assert climb.command.outcome is Outcome.FAILED


def test_a_pod_that_hangs_in_termination_ends_the_act_as_stuck() -> None:
    climb = Climb(settings())
    climb.see(Answered("accepted"))
    assert isinstance(climb.see(Elapsed(), after=119), Wait)
    finish = climb.see(Elapsed(), after=2)
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.STUCK


def test_a_pod_that_somebody_else_removed_is_not_claimed() -> None:
    climb = Climb(settings())
    assert isinstance(climb.see(Answered("gone")), Measure)
    finish = climb.measure(6500, 0)
    assert isinstance(finish, Finish)
    assert finish.outcome is Outcome.ABANDONED


def test_memory_that_nobody_measured_is_unknown_and_not_zero() -> None:
    climb = Climb(settings())
    climb.see(Answered("accepted"))
    climb.see(Gone())
    assert climb.see(Elapsed(), after=16) == Finish(Outcome.EVICTED, None, "not measured in time")


def test_a_release_hook_is_exactly_one_of_http_and_command() -> None:
    for fields in ({}, {"port": 80, "command": ("free",)}):
        with pytest.raises(ValueError, match="exactly one of port"):
            ReleaseHook.model_validate(fields)


def test_a_command_needs_to_be_allowed() -> None:
    rules = {"over": {"release_hook": {"command": ("free",)}}}
    with pytest.raises(ValueError, match="the release hook of over is a command, which needs allow_exec: true"):
        settings(rules)
    assert settings(rules, allow_exec=True).allow_exec


def test_memory_that_the_driver_counts_a_moment_longer_is_waited_for() -> None:
    climb = Climb(settings())
    climb.see(Answered("accepted"))
    climb.see(Gone())
    still = climb.see(Measured(ago(-10), 385, 6800), after=1)
    assert isinstance(still, Measure)
    finish = climb.see(Measured(ago(-11), 7185, 0), after=1)
    assert isinstance(finish, Finish)
    assert finish.freed_mib is not None
    assert finish.freed_mib > 0


def test_memory_that_never_comes_back_is_reported_as_nothing_given_back() -> None:
    climb = Climb(settings())
    climb.see(Answered("accepted"))
    climb.see(Gone())
    finish = climb.see(Measured(ago(-20), 385, 10_000_000), after=16)
    assert isinstance(finish, Finish)
    assert finish.freed_mib is not None
    assert finish.freed_mib <= 0
