"""The watchdog from sample to act. Tests that begin with `fact` pin a fault of the field's list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from helpers.domain.errors import ClusterError, Conflict
from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import ContainerUse, GpuSample, Outcome
from helpers.domain.watchdog.ladder_steps import HookAnswered
from helpers.ports.release_hook import HookTarget
from tests.fakes.outside import FakeLeadership
from tests.fakes.watchdog_world import FLOOR_MIB, TARGET, World, hook, incident, pod_ref, rule, settings

GROWN = "immich-ml/immich-ml-5d9c-0"
LONG_SECONDS = 700.0


def outcomes(world: World) -> list[tuple[str, str, int | None]]:
    return world.metrics.recycles


def event_reasons(world: World) -> list[str]:
    return [reason for _, _, reason, _ in world.events.recorded]


def test_fact_12_the_grown_tenant_is_recycled_and_the_others_are_not() -> None:
    world = incident()
    world.look()
    assert world.evicted() == [GROWN]
    assert outcomes(world) == [("immich-ml", "evicted", 10957)]
    assert {pod["metadata"]["namespace"] for pod in world.pods()} == {"frigate", "ollama"}
    assert world.reasons(world.look()) == {Reason.ENOUGH_FREE}


def test_nothing_is_done_while_there_is_enough_free() -> None:
    world = World()
    world.add("immich-ml", 9000)  # far over its budget, and nobody needs it
    for _ in range(20):
        assert world.reasons(world.look()) == {Reason.ENOUGH_FREE}
    assert world.evicted() == []


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


def test_fact_7_a_dry_run_says_what_it_would_have_done_and_does_nothing() -> None:
    world = incident(settings(dry_run=True))
    for _ in range(10):
        world.look()
    assert world.evicted() == []
    assert len(world.pods()) == 3
    assert outcomes(world) == [("immich-ml", "dry_run", None)]
    assert [(reason, "would recycle" in message) for _, _, reason, message in world.events.recorded] == [
        ("GpumemWouldRecycle", True),
        ("GpumemNotRecycled", False),  # the cool-down of what was not done
    ]
    assert "the eviction would be accepted" in world.events.recorded[0][3]


def test_one_armed_tenant_is_recycled_while_the_others_are_only_watched() -> None:
    armed = [rule("immich-ml", dry_run=False), rule("frigate"), rule("ollama")]
    world = incident(settings(armed, dry_run=True))
    world.look()
    assert world.evicted() == [GROWN]
    assert world.metrics.by_tenant == {"immich-ml": False, "frigate": True, "ollama": True}


def test_a_dry_run_finds_the_disruption_budget_that_would_be_in_the_way() -> None:
    world = incident(settings(dry_run=True))
    world.cluster.disruption_budgets.add("immich-ml-5d9c-0")
    world.look()
    assert "the eviction would be answered blocked" in world.events.recorded[0][3]


def test_fact_1_a_budget_of_round_thousands_is_counted() -> None:
    world = World()
    world.add("immich-ml", 10957, budget="3k")
    world.add("ollama", 2800, budget="5e3")
    world.look()
    assert world.evicted() == [GROWN]


def test_fact_3_the_watchdog_works_without_names_and_without_reading_nodes() -> None:
    world = incident()
    world.look()
    assert not [call for call in world.cluster.calls if "Node" in call]


def test_fact_4_memory_that_no_pod_owns_is_named_and_blamed_on_nobody() -> None:
    world = World()
    world.add("frigate", 1900)
    world.exporter.unattributed_mib = 12000
    decisions = world.look()
    assert Reason.UNATTRIBUTED in world.reasons(decisions)
    assert world.evicted() == []
    assert "12000 MiB belong to no pod" in str(world.events.recorded)


def test_fact_6_an_undeclared_pod_is_reported_and_stays() -> None:
    world = World()
    world.add("whisper", 12000, budget="")
    world.add("frigate", 1900)
    decisions = world.look()
    assert Reason.UNBUDGETED in world.reasons(decisions)
    assert world.evicted() == []
    assert ("whisper-5d9c-0", "Warning") in [(name, kind) for name, kind, _, _ in world.events.recorded]


def test_fact_6_an_undeclared_pod_is_evicted_where_the_estate_says_so() -> None:
    world = World(settings(unbudgeted="evict"))
    world.add("whisper", 12000, budget="")
    world.add("frigate", 1900)
    world.look()
    assert world.evicted() == ["whisper/whisper-5d9c-0"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sample: None,
        lambda sample: "malformed",
        lambda sample: replace(sample, ok=False, error="one row is [N/A]"),
        lambda sample: replace(sample, free_mib=None),
        lambda sample: replace(sample, free_mib=-5),
        lambda sample: replace(sample, used_mib=sample.used_mib + 9000),
        lambda sample: replace(sample, pods=(*sample.pods, sample.pods[0])),
        lambda sample: replace(sample, pods=(ContainerUse("immich-ml", "immich-ml-5d9c-0", "main", 40000),)),
        lambda sample: replace(sample, sampled_at=sample.sampled_at - timedelta(seconds=60)),
        lambda sample: replace(sample, sampled_at=sample.sampled_at + timedelta(seconds=60)),
    ],
    ids=["silent", "malformed", "failed", "free-absent", "negative", "too-much", "twice", "repeated", "old", "future"],
)
def test_fact_8_an_exporter_that_stalls_or_lies_makes_its_cards_unknown_and_nothing_is_done(
    spoil: object,
) -> None:
    world = incident()
    world.exporter.used_mib["immich-ml", "immich-ml-5d9c-0"] = 3000
    world.look()  # a good sample first, which must not be rested on later
    world.use("immich-ml", 10957)
    world.exporter.fault = spoil  # type: ignore[assignment]
    for _ in range(10):
        world.look()
    assert world.evicted() == []
    world.exporter.fault = lambda sample: sample
    world.look()
    assert world.evicted() == [GROWN]


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


def test_an_exporter_that_left_is_stale_for_a_while_and_then_forgotten() -> None:
    world = incident()
    world.exporter.fault = lambda sample: replace(sample, free_mib=9000)
    world.look()
    for _ in range(40):
        world.clock.advance(5)
        gone = world.watchdog.samples.follow((), world.clock.monotonic_seconds())
        if gone:
            break
        world.watchdog.pass_over()
    assert gone == (TARGET,)
    assert Reason.STALE in world.metrics.reasons
    assert world.watchdog.samples.all() == ()


def test_an_overtaken_leader_announces_nothing_and_does_nothing() -> None:
    world = incident()
    world.acts.fail = [Conflict("Lease: another holds it")]
    world.later.append(lambda: setattr(world.leadership, "leading", world.acts.fail != []))
    world.look()
    assert world.evicted() == []


def test_a_process_that_does_not_lead_asks_no_exporter_and_does_nothing() -> None:
    world = incident()
    world.leadership.leading = False
    for _ in range(5):
        assert world.look() == ()
    assert world.exporter.asked_count == 0
    assert world.metrics.leading is False


def test_leadership_that_is_lost_while_waiting_ends_the_act_before_the_eviction() -> None:
    world = incident()
    world.later.append(lambda: setattr(world.leadership, "leading", False))
    world.look()
    assert world.evicted() == []


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


def test_caps_hold_over_a_change_of_the_leader() -> None:
    world = incident(settings(cooldown_seconds=0, recycles_per_hour_tenant=1))
    world.look()
    world.add("immich-ml", 10957, ordinal=1)
    world.leadership.leading = False
    second = world.another(FakeLeadership())
    assert Reason.TENANT_CAP in world.reasons(world.look(second))
    assert world.evicted() == [GROWN]
    world.clock.advance(3600)
    world.look(second)
    assert len(world.evicted()) == 2


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


def test_a_protected_pod_is_passed_over_and_says_so_once() -> None:
    world = World()
    world.add("immich-ml", 10957, annotations={"gpumem.io/protected": "true"})
    world.add("ollama", 2800)
    for _ in range(20):
        world.look()
    assert world.evicted() == []
    told = [name for name, _, _, message in world.events.recorded if "protected" in message]
    assert told == ["immich-ml-5d9c-0"]


def test_a_refusal_that_stands_is_told_once_an_hour() -> None:
    world = World()
    world.add("immich-ml", 13500, annotations={"gpumem.io/protected": "true"})
    for _ in range(750):
        world.look()
    told = [name for name, _, _, message in world.events.recorded if "holds 13500" in message]
    assert len(told) == 2


def test_a_burst_of_refusals_is_spread_and_none_is_lost() -> None:
    world = World()
    for ordinal in range(50):
        world.add("whisper", 260, ordinal=ordinal, budget="")
    world.add("frigate", 1900)
    world.look()
    assert len(world.events.recorded) == 20
    for _ in range(40):
        world.look()
    assert len({name for name, _, _, _ in world.events.recorded if name.startswith("whisper")}) == 50


def test_every_pass_is_recorded_as_it_was_decided_on() -> None:
    world = incident(settings(dry_run=True))
    world.look()
    world.look()
    assert len(world.trace.frames) == 2
    assert {pod.tenant for pod in world.trace.frames[0].pods} == {"immich-ml", "frigate", "ollama"}


def test_a_card_under_pressure_or_falling_towards_it_is_looked_at_every_second() -> None:
    world = World()
    world.add("immich-ml", 1000)
    world.look()
    assert world.watchdog.samples.next_due_seconds() == pytest.approx(world.clock.monotonic_seconds() + 5)
    world.use("immich-ml", 9000)
    world.look()
    assert world.watchdog.samples.next_due_seconds() == pytest.approx(world.clock.monotonic_seconds() + 1)


class Killed(Exception):
    """The process ends here, whatever it was about to do."""


def killed_at(world: World, call: str) -> None:
    """The first watchdog ends when it sends that request, which still arrives."""
    evict = world.cluster.evict

    def dies(*arguments: object, **named: object) -> object:
        result = evict(*arguments, **named) if call == "after" else None  # type: ignore[arg-type]
        world.leadership.leading = False
        world.cluster.evict = evict  # type: ignore[method-assign]
        del result
        raise Killed

    world.cluster.evict = dies  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        world.look()


def test_a_leader_killed_after_its_eviction_is_followed_without_a_second_victim() -> None:
    world = incident(grace_seconds=30)
    world.use("immich-ml", 6000)
    world.add("ollama", 6000, ordinal=1)
    killed_at(world, "after")
    second = world.another(FakeLeadership())
    for _ in range(20):
        world.look(second)
    assert world.evicted() == [GROWN]
    assert [record.outcome for record in world.acts.records] == [Outcome.EVICTED]
    assert "GpumemRecycleSettled" in event_reasons(world)


def test_a_leader_killed_before_its_eviction_is_followed_by_the_same_act_and_no_other() -> None:
    world = incident()
    killed_at(world, "before")
    second = world.another(FakeLeadership())
    seen = [world.reasons(world.look(second)) for _ in range(3)]
    assert seen == [{Reason.ACT_UNDER_WAY}] * 3
    assert world.evicted() == []
    for _ in range(5):
        world.look(second)
    assert world.evicted() == [GROWN]
    assert outcomes(world)[-1] == ("immich-ml", "evicted", 10957)


def test_a_process_that_leads_again_does_not_continue_an_act_of_its_earlier_term() -> None:
    world = incident()

    def flickers() -> None:
        world.leadership.leading = False
        world.watchdog.take_over()
        world.leadership.leading = True
        world.watchdog.take_over()

    world.later.append(flickers)
    world.look()
    assert world.evicted() == []
    world.later.clear()
    for _ in range(3):
        world.look()
    assert world.evicted() == [GROWN]


def test_a_stop_leaves_the_act_to_the_next_leader_whole() -> None:
    world = incident(grace_seconds=30)
    world.acts.after_save = lambda: None
    world.later.append(lambda: setattr(world, "stopped", bool(world.evicted())))
    world.look()
    assert [record.finished_at for record in world.acts.records] == [None]
    assert world.evicted() == [GROWN]
