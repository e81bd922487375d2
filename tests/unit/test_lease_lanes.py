"""Lanes and leases know of each other: what holds memory, what is busy, and when a model leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helpers.domain.estate.coordinator import Engine
from helpers.domain.lanes.decision import Pause, decide
from helpers.domain.lanes.engines import EngineFacts, to_unload
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule
from helpers.domain.leases.facts import LaneUse
from helpers.domain.leases.jobs import lane_uses
from tests.fakes.lanes import queue, rule, settings, situation
from tests.fakes.leases import lane_rule

MODEL = "gemma4:e4b-q8_0"


def leased(mib: int, lane: str = "batch", **fields: Any) -> Situation:
    facts = (queue("realtime"), queue("batch", wait_count=5))
    return situation(*facts, leased_mib={"ollama": {lane: mib}}, **fields)


def test_a_batch_lane_does_not_begin_beside_leases_that_leave_it_no_room() -> None:
    (pause,) = decide(settings(), leased(1000))[1]
    assert isinstance(pause, Pause)
    assert pause.text == "leases are held; 1000 + 4608 > 5120 MiB"
    assert not isinstance(decide(settings(), leased(512))[1][0], Pause)


def test_another_tenants_leases_keep_no_lane_out() -> None:
    other = situation(queue("realtime"), queue("batch", wait_count=5), leased_mib={"plex": {"day": 5000}})
    assert not isinstance(decide(settings(), other)[1][0], Pause)


def test_the_ledger_of_leases_is_told_what_running_jobs_need_and_what_of_it_is_loaded() -> None:
    declared = settings(rule("realtime", "realtime", model=MODEL), rule("batch"))
    now = situation(queue("realtime", active_count=2), queue("batch", wait_count=3))
    engine = EngineFacts("ollama", loaded={MODEL: 4700})
    now = replace(now, measured_mib={MODEL: 4700})
    assert lane_uses(declared, now, {"ollama": engine}) == (LaneUse("realtime", "ollama", 4700, 4700),)
    assert lane_uses(declared, now, {}) == (LaneUse("realtime", "ollama", 4700, None),)
    assert lane_uses(declared, situation(queue("realtime"), queue("batch")), {}) == ()


def cleaning() -> CoordinatorSettings:
    """A lane without queues, for leases, whose model leaves when it has come to rest."""
    quiet = lane_rule("day", "ollama", model=MODEL, cleanup="unload", settle_seconds=5)
    engine = EngineRule(engine=Engine(tenant="ollama", ollama_url="http://127.0.0.1:11434"), node="desk")
    return settings(quiet, engines=(engine,))


def test_a_model_leaves_the_memory_when_the_lanes_last_lease_has_ended_and_it_has_settled() -> None:
    facts = {"ollama": EngineFacts("ollama", loaded={MODEL: 4608})}
    held = situation(leased_mib={"ollama": {"day": 4608}}, busy_seconds={"day": 1000.0})
    assert to_unload(cleaning(), held, facts) == ()
    just_over = situation(busy_seconds={"day": 996.0})
    assert to_unload(cleaning(), just_over, facts) == ()
    (unload,) = to_unload(cleaning(), situation(busy_seconds={"day": 995.0}), facts)
    assert (unload.model, unload.why) == (MODEL, "day has come to rest")


def test_a_model_that_a_lease_uses_stays_though_another_lane_wants_the_memory() -> None:
    """As one that a running job uses: pausing and unloading take nothing away from who holds it."""
    asking = rule("chat", "realtime", model="nomic-embed-text")
    day = lane_rule("day", "ollama", model=MODEL)
    engine = EngineRule(
        engine=Engine(tenant="ollama", ollama_url="http://127.0.0.1:11434"), node="desk", one_model=True
    )
    declared = settings(asking, day, engines=(engine,))
    facts = {"ollama": EngineFacts("ollama", loaded={MODEL: 4608})}
    wanted = queue("chat", wait_count=1)
    assert to_unload(declared, situation(wanted, leased_mib={"ollama": {"day": 4608}}), facts) == ()
    assert [one.model for one in to_unload(declared, situation(wanted), facts)] == [MODEL]
