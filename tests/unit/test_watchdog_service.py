"""The watchdog from sample to decision. Tests that begin with `fact` pin a fault of the field's list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import ContainerUse
from tests.fakes.watchdog_world import (
    GROWN,
    TARGET,
    World,
    incident,
    outcomes,
    rule,
    settings,
)


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


def test_a_watch_that_ended_of_something_unforeseen_ends_the_watchdog() -> None:
    """Started anew it sees again; with a pod view that stands still it would seem well."""
    world = incident()
    world.cluster.meanwhile.append(lambda: (_ for _ in ()).throw(OSError("the connection is gone")))
    with pytest.raises(OSError, match="the connection is gone"):
        world.watchdog.run()
