"""Several watchdogs and one that ends: acts are begun by who leads, and outlive whoever began them."""

from __future__ import annotations

import pytest

from helpers.domain.errors import Conflict
from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import Outcome
from tests.fakes.outside import FakeLeadership
from tests.fakes.watchdog_world import (
    GROWN,
    World,
    event_reasons,
    incident,
    outcomes,
    settings,
)


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
