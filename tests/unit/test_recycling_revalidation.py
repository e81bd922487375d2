"""Right before acting the decision is made again: decide, wait, re-validate, act."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from helpers.domain.watchdog.decisions import Decision, Reason, Recycle, Refusal
from helpers.domain.watchdog.facts import ActRecord, GpuSample, PodFacts
from helpers.domain.watchdog.recycling import decide, revalidate, still_valid
from helpers.domain.watchdog.settings import WatchdogSettings
from tests.cases.recycling.world import NOW, act, pod, sample, settings

LATER = NOW + timedelta(seconds=2)
PODS = (pod("ns/over"), pod("ns/other"))
CHOSEN = settings()


def decided() -> Recycle:
    decision = decide(CHOSEN, [sample({"ns/over": 9000, "ns/other": 900}, free_mib=100)], PODS, (), NOW)[-1]
    assert isinstance(decision, Recycle)
    return decision


def fresh(over_mib: int = 9000, other_mib: int = 900, free_mib: int | None = 100, **fields: Any) -> GpuSample:
    values = {"sampled_at": LATER, **fields}
    return sample({"ns/over": over_mib, "ns/other": other_mib}, free_mib=free_mib, **values)


def again(
    card: GpuSample | None,
    pods: tuple[PodFacts, ...] = PODS,
    history: tuple[ActRecord, ...] = (),
    chosen: WatchdogSettings = CHOSEN,
) -> Decision:
    return revalidate(decided(), chosen, [card] if card else [], pods, history, LATER)


def reason(decision: Decision) -> Reason:
    return decision.reason


def test_the_same_picture_in_a_newer_sample_confirms_it_with_fresh_numbers() -> None:
    confirmed = again(fresh(over_mib=9500))
    assert isinstance(confirmed, Recycle)
    assert (confirmed.victim.uid, confirmed.overshoot_mib) == ("uid-over", 8500)


def test_the_very_same_sample_confirms_nothing() -> None:
    assert reason(again(fresh(sampled_at=decided().card.sampled_at))) is Reason.NOT_CONFIRMED


def test_a_victim_back_in_its_budget_is_left_alone() -> None:
    assert reason(again(fresh(over_mib=1000))) is Reason.NO_OFFENDER


def test_a_pressure_that_is_over_ends_it() -> None:
    assert reason(again(fresh(free_mib=1536))) is Reason.ENOUGH_FREE


def test_another_offender_by_now_is_not_taken_in_its_stead() -> None:
    refused = again(fresh(over_mib=2000, other_mib=5000))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.NOT_CONFIRMED
    assert refused.text == "the largest overshoot is ns/other's by now, not ns/over's"


def test_a_successor_of_the_same_name_is_not_the_victim() -> None:
    successor = replace(PODS[0], uid="another")
    assert reason(again(fresh(), (successor, PODS[1]))) is Reason.NOT_CONFIRMED


def test_a_sample_that_failed_or_is_gone_ends_it() -> None:
    assert reason(again(fresh(ok=False))) is Reason.UNKNOWN
    assert reason(again(None)) is Reason.UNKNOWN


def test_a_victim_that_was_protected_meanwhile_is_left_alone() -> None:
    protected = replace(PODS[0], protected=True)
    assert reason(again(fresh(), (protected, PODS[1]))) is Reason.NO_OFFENDER


def test_its_own_record_is_not_in_the_way_and_another_act_is() -> None:
    own = act(PODS[0], started=1, finished=None)
    assert isinstance(again(fresh(), history=(own,)), Recycle)
    other = act(PODS[1], started=1, finished=None)
    assert reason(again(fresh(), history=(own, other))) is Reason.ACT_UNDER_WAY


def test_a_victim_that_terminates_already_is_waited_for() -> None:
    leaving = replace(PODS[0], deletion_at=LATER)
    assert reason(again(fresh(), (leaving, PODS[1]))) is Reason.ON_ITS_WAY_BACK


def test_disarming_meanwhile_makes_it_invalid() -> None:
    card = fresh()
    assert still_valid(decided(), CHOSEN, [card], PODS, (), LATER)
    dry = CHOSEN.model_copy(update={"dry_run": True})
    assert not still_valid(decided(), dry, [card], PODS, (), LATER)
