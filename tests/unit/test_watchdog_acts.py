"""The watchdog from decision to the measured end of an act. Tests that begin with `fact` pin a fault of the field."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helpers.domain.errors import ClusterError
from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import GpuSample
from helpers.domain.watchdog.ladder_steps import HookAnswered
from helpers.ports.release_hook import HookTarget
from tests.fakes.watchdog_world import (
    FLOOR_MIB,
    GROWN,
    event_reasons,
    hook,
    incident,
    outcomes,
    pod_ref,
    rule,
    settings,
)


def test_every_act_is_told_on_the_pod_with_its_numbers() -> None:
    world = incident()
    world.look()
    name, kind, reason, message = world.events.recorded[0]
    assert (name, kind, reason) == ("immich-ml-5d9c-0", "Warning", "GpumemRecycling")
    assert "10957 MiB there with a budget of 3000, 7957 MiB over" in message
    assert f"free, floor {FLOOR_MIB}" in message
    assert world.events.recorded[-1][2] == "GpumemRecycled"
    assert "given back: 10957 MiB" in world.events.recorded[-1][3]


def test_every_step_is_logged_with_its_time_and_what_it_gave_back() -> None:
    world = incident()
    world.look()
    assert [(line["step"], line["freed_mib"]) for line in world.log.of("recycle_step")] == [
        ("evict", None),
        ("wait_until_gone", None),
        ("measure_after", 10957),
    ]


def test_an_exporter_that_begins_to_lie_between_decision_and_act_stops_the_act() -> None:
    world = incident()

    def lies_later(sample: GpuSample) -> GpuSample | str:
        return sample if world.exporter.asked_count == 1 else "malformed"

    world.exporter.fault = lies_later
    world.look()
    assert world.evicted() == []
    assert world.log.of("recycle_called_off")
    assert world.acts.records == ()


def test_a_tenant_that_went_back_into_its_budget_in_time_is_left_alone() -> None:
    world = incident()
    world.later.append(lambda: world.use("immich-ml", 2000))
    world.look()
    assert world.evicted() == []
    assert "enough_free" in str(world.log.of("recycle_called_off"))


def test_an_act_is_stored_before_it_is_begun_and_not_begun_where_that_fails() -> None:
    world = incident()
    seen: list[list[str]] = []
    world.acts.after_save = lambda: seen.append(world.evicted())
    world.acts.fail = [ClusterError("patch Lease: 500")]
    world.look()
    assert world.evicted() == []
    assert "patch Lease: 500" in str(world.log.of("recycle_called_off"))
    world.look()
    assert world.evicted() == [GROWN]
    assert seen[-2] == []
    assert seen[-1] == [GROWN]


def test_facts_that_grew_old_while_the_api_was_slow_are_taken_anew() -> None:
    world = incident()

    def slow() -> None:
        world.clock.advance(10)
        world.use("immich-ml", 2000)

    world.acts.after_save = slow
    world.look()
    assert world.evicted() == []
    assert "enough_free" in str(world.log.of("recycle_called_off"))


def test_fact_11_a_victim_that_still_terminates_costs_no_second_one() -> None:
    world = incident(grace_seconds=600)
    world.use("immich-ml", 6500)
    world.add("ollama", 5500, ordinal=1)  # over its budget as well
    world.look()
    first = world.evicted()
    assert len(first) == 1
    for _ in range(60):
        decisions = world.look()
        assert Reason.ON_ITS_WAY_BACK in world.reasons(decisions)
    assert world.evicted() == first


def test_fact_11_after_the_memory_came_back_the_next_deficit_is_a_new_one() -> None:
    world = incident(settings(cooldown_seconds=0))
    world.look()
    world.add("ollama", 12000, ordinal=1)
    world.look()
    assert world.evicted() == [GROWN, "ollama/ollama-5d9c-1"]


def test_fact_11_a_recycled_tenant_cools_down_and_no_smaller_offender_is_taken_instead() -> None:
    world = incident()
    world.look()
    world.add("immich-ml", 6500, ordinal=1)
    world.add("ollama", 5400, ordinal=1)
    for _ in range(20):
        assert Reason.COOLDOWN in world.reasons(world.look())
    assert world.evicted() == [GROWN]


def test_a_disruption_budget_is_waited_for() -> None:
    world = incident()
    world.cluster.disruption_budgets.add("immich-ml-5d9c-0")
    until = world.clock.now_at() + timedelta(seconds=25)

    def yields() -> None:
        if world.clock.now_at() > until:
            world.cluster.disruption_budgets.clear()

    world.later.append(yields)
    world.look()
    assert len(world.evicted()) > 1
    assert outcomes(world) == [("immich-ml", "evicted", 10957)]


def test_fact_11_a_disruption_budget_that_never_yields_is_given_up_and_named() -> None:
    world = incident()
    world.cluster.disruption_budgets.add("immich-ml-5d9c-0")
    world.look()
    assert not [call for call in world.cluster.calls if call.startswith("delete")]
    assert outcomes(world) == [("immich-ml", "blocked", None)]
    assert "GpumemRecycleFailed" in event_reasons(world)
    assert len(world.pods()) == 3


def test_a_pod_is_deleted_only_where_the_estate_allows_it() -> None:
    world = incident(settings(allow_delete=True, on_blocked="delete"))
    world.cluster.disruption_budgets.add("immich-ml-5d9c-0")
    world.look()
    assert [call for call in world.cluster.calls if call.startswith("delete")] == [f"delete Pod Pod {GROWN}"]
    assert outcomes(world) == [("immich-ml", "deleted", 10957)]


def test_a_clock_that_is_set_ahead_does_not_end_the_wait_for_a_disruption_budget() -> None:
    world = incident(settings(allow_delete=True, on_blocked="delete"))
    world.cluster.disruption_budgets.add("immich-ml-5d9c-0")
    began = world.clock.monotonic_seconds()
    honest = world.clock.now_at

    def ahead() -> object:
        return honest() + timedelta(days=1 if world.clock.monotonic_seconds() - began > 12 else 0)

    world.clock.now_at = ahead  # type: ignore[method-assign,assignment]
    world.exporter.clock = world.clock
    world.look()
    delete_after = [line["seconds"] for line in world.log.of("recycle_step") if line["step"] == "evict"]
    assert world.clock.monotonic_seconds() - began >= 60
    assert delete_after


@pytest.mark.parametrize("jump_hours", [1, -1], ids=["ahead", "back"])
def test_the_end_of_an_act_is_written_in_the_time_that_did_not_jump(jump_hours: int) -> None:
    world = incident()
    honest, jumped = world.clock.now_at, timedelta(hours=jump_hours)
    world.later.append(lambda: setattr(world.clock, "now_at", lambda: honest() + jumped) if world.evicted() else None)
    world.look()
    assert world.evicted() == [GROWN]
    world.later.clear()
    world.clock.now_at = honest  # type: ignore[method-assign]
    world.add("immich-ml", 10957, ordinal=1)
    assert world.reasons(world.look()) == {Reason.COOLDOWN}
    world.clock.advance(300)
    world.look()
    assert len(world.evicted()) == 2


def test_a_clock_that_is_set_ahead_for_a_while_does_not_end_the_cooldown() -> None:
    world = incident()
    honest = world.clock.now_at
    world.look()
    world.add("immich-ml", 10957, ordinal=1)
    world.clock.now_at = lambda: honest() + timedelta(hours=2)  # type: ignore[method-assign]
    world.exporter.skew_seconds = -7200.0
    assert world.reasons(world.look()) == {Reason.STALE}
    world.clock.now_at, world.exporter.skew_seconds = honest, 0.0  # type: ignore[method-assign]
    assert world.reasons(world.look()) == {Reason.COOLDOWN}
    assert world.evicted() == [GROWN]


def test_an_api_that_answers_nothing_is_no_reason_to_delete() -> None:
    world = incident(settings(allow_delete=True, on_blocked="delete"))
    world.cluster.fail_next("create", *[ClusterError("evict: 500") for _ in range(100)])
    world.look()
    assert not [call for call in world.cluster.calls if call.startswith("delete")]
    assert [outcome for _, outcome, _ in outcomes(world)] == ["failed"]


def test_a_release_hook_that_gives_enough_back_spares_the_pod() -> None:
    world = incident(settings([rule("immich-ml", release_hook=hook()), rule("frigate"), rule("ollama")]))

    def releases() -> HookAnswered:
        world.use("immich-ml", 1000)
        return HookAnswered(True, "200")

    world.hooks.answer = releases
    world.look()
    assert world.evicted() == []
    assert outcomes(world) == [("immich-ml", "released", 9957)]
    assert world.hooks.calls[0][1] == HookTarget("immich-ml", "immich-ml-5d9c-0", "main", "10.0.0.7")
    assert "the release hook answered: 200" in world.events.recorded[-1][3]


@pytest.mark.parametrize("answer", [HookAnswered(True, "200"), HookAnswered(False, "503")], ids=["yes", "no"])
def test_a_release_hook_that_gives_nothing_back_is_followed_by_the_eviction(answer: HookAnswered) -> None:
    world = incident(settings([rule("immich-ml", release_hook=hook()), rule("frigate"), rule("ollama")]))
    world.hooks.answer = lambda: answer
    world.look()
    assert outcomes(world) == [("immich-ml", "evicted", 10957)]
    assert len(world.hooks.calls) == 1


def test_a_pod_that_never_ends_is_reported_and_no_other_is_taken() -> None:
    world = incident()
    world.cluster.write(pod_ref("immich-ml"), {"metadata": {"annotations": {"stuck": "yes"}}})
    world.look()
    assert outcomes(world) == [("immich-ml", "stuck_terminating", None)]
    for _ in range(30):
        world.look()
    assert world.evicted() == [GROWN]
