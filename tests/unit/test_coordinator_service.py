"""The coordinator's loop on fakes: in which order it acts, what a death in between leaves, what a dry run says."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
import pytest

from helpers.adapters.bullmq_clients.hands import check_clients
from helpers.adapters.coordinator_metrics import PrometheusCoordinatorMetrics
from helpers.adapters.engine_host import EngineHosts
from helpers.apps.coordinator.server import Answers
from helpers.domain.errors import DependencyError, Forbidden, InputError
from helpers.domain.lanes.decision import Pause, Resume
from helpers.domain.lanes.engines import EngineFacts, Unload
from helpers.domain.lanes.facts import QueueFacts
from helpers.ports.queues import QueueEvent
from tests.fakes.coordinator_world import CoordinatorWorld, FakeRedis, engine_rule
from tests.fakes.lanes import mark, queue, rule, settings
from tests.unit.test_lane_yielding import HOOK

LANES = settings(rule("realtime", "realtime"), rule("batch", settle_seconds=5))
WORKING, IDLE = queue("realtime", active_count=1), queue("realtime")
AWAY = DependencyError("Redis: no answer")


def world(*facts: QueueFacts, **fields: object) -> CoordinatorWorld:
    return CoordinatorWorld(FakeRedis(*facts), LANES.model_copy(update=fields))


def acts(one: CoordinatorWorld) -> list[str]:
    """What was done to queues and marks, without looks and warm-ups."""
    return [what for what in one.redis.did if what.split()[0] in ("mark", "pause", "resume", "drop")]


def test_the_mark_stands_before_the_pause_and_goes_after_the_resume() -> None:
    one = world(WORKING, queue("batch"))
    one.coordinator.pass_over(())
    assert acts(one) == ["mark ai-batch announced", "pause ai-batch 5", "mark ai-batch confirmed"]
    one.redis.did.clear()
    one.redis.queues["ai-realtime"] = IDLE
    one.clock.advance(4.9)
    one.coordinator.pass_over(())
    assert acts(one) == []
    one.clock.advance(0.2)
    one.coordinator.pass_over(())
    assert acts(one) == ["resume ai-batch 5", "drop ai-batch"]


def test_dead_before_the_pause_its_mark_is_forgotten_when_no_pause_can_come_any_more() -> None:
    one = world(WORKING, queue("batch"))
    one.redis.refuses["pause"] = AWAY
    one.coordinator.pass_over(())
    assert acts(one) == ["mark ai-batch announced"]
    del one.redis.refuses["pause"]
    one.redis.queues["ai-realtime"] = IDLE
    one.start()
    for _ in range(70):
        one.clock.advance(1)
        one.coordinator.pass_over(())
    assert acts(one) == ["mark ai-batch announced", "drop ai-batch"]


def test_dead_after_the_pause_the_next_one_resumes_it() -> None:
    one = world(WORKING, queue("batch"))
    one.redis.lost_answers.add("pause")
    one.coordinator.pass_over(())
    assert one.redis.queues["ai-batch"].paused
    one.redis.lost_answers.clear()
    one.redis.queues["ai-realtime"] = IDLE
    one.start()
    one.coordinator.pass_over(())
    assert not one.redis.queues["ai-batch"].paused
    assert one.redis.marks == {}


def test_a_pause_whose_answer_was_lost_keeps_its_mark_over_the_resume_for_it_may_come_again() -> None:
    one = world(WORKING, queue("batch"))
    one.redis.lost_answers.add("pause")
    one.coordinator.pass_over(())
    one.redis.lost_answers.clear()
    one.redis.queues["ai-realtime"] = IDLE
    one.clock.advance(6)
    one.coordinator.pass_over(())
    assert one.redis.marks["ai-batch"].confirmed is False
    # It arrives late; with the mark it is ours, and is taken back.
    one.redis.queues["ai-batch"] = queue("batch", paused=True)
    one.coordinator.pass_over((QueueEvent("ai-batch", "paused", 0),))
    assert not one.redis.queues["ai-batch"].paused


def test_a_pause_of_ours_that_a_person_repeats_is_theirs() -> None:
    one = world(WORKING, queue("batch"))
    one.coordinator.pass_over(())
    one.coordinator.pass_over((QueueEvent("ai-batch", "paused", 0),))
    assert one.redis.marks, "that was our own"
    one.coordinator.pass_over((QueueEvent("ai-batch", "paused", 1),))
    assert one.redis.marks == {}
    assert one.log.of("pause_taken_over")


def test_a_person_s_pause_is_theirs_also_when_the_event_of_ours_was_lost_with_a_connection() -> None:
    one = world(WORKING, queue("batch"))
    one.coordinator.turn()
    one.redis.refuses["snapshot"] = AWAY
    one.coordinator.turn()
    del one.redis.refuses["snapshot"]
    one.coordinator.turn()
    assert one.redis.marks, "ours"
    one.coordinator.pass_over((QueueEvent("ai-batch", "paused", 1),))
    assert one.redis.marks == {}


def test_a_queue_that_cannot_be_paused_is_tried_again_soon_and_the_others_are_paused() -> None:
    lanes = settings(rule("realtime", "realtime"), rule("batch", queues=["ai-batch", "ai-other"]))
    one = CoordinatorWorld(FakeRedis(WORKING, queue("batch"), queue("other")), lanes)
    one.redis.lost_answers.add("pause")
    decisions = one.coordinator.pass_over(())
    assert sum(isinstance(decision, Pause) for decision in decisions) == 2
    assert one.metrics.acts == [("batch", "pause", "failed")] * 2


def test_redis_that_is_silent_is_said_once_and_read_anew_when_it_is_back() -> None:
    one = world(WORKING, queue("batch"))
    one.redis.refuses["snapshot"] = AWAY
    for _ in range(3):
        one.coordinator.turn()
    assert len(one.log.of("redis_does_not_answer")) == 1
    assert one.metrics.answered == [False] * 3
    del one.redis.refuses["snapshot"]
    one.redis.did.clear()
    one.coordinator.turn()
    assert one.redis.did[0] == "start_over"
    assert one.log.of("redis_is_back")


def test_who_does_not_lead_touches_nothing_and_wishes_nothing() -> None:
    model = settings(
        rule("realtime", "realtime", model="big").model_copy(update={"one_model": True}),
        rule("batch", model="small").model_copy(update={"one_model": True}),
        engines=(engine_rule(one_model=True),),
    )
    one = CoordinatorWorld(FakeRedis(IDLE, queue("batch", wait_count=1)), model)
    one.engines.facts["ollama"] = EngineFacts("ollama", "", {"big": 4608}, 500)
    one.watch.look()
    one.coordinator.turn()
    one.leadership.leading = False
    one.coordinator.turn()
    one.watch.look()
    assert one.engines.unloaded == [], "a wish of the time in which it led"
    one.leadership.leading = True
    one.coordinator.turn()
    one.watch.look()
    assert one.engines.unloaded == [Unload("ollama", "big", "batch needs small")]


def test_what_a_former_leader_saw_of_the_lanes_is_not_shown_any_more() -> None:
    """Its series would stand still for ever: a lane that waited would seem to wait until the process ends."""
    one = world(WORKING, queue("batch", wait_count=1))
    registry = prometheus_client.CollectorRegistry()
    one.metrics = PrometheusCoordinatorMetrics(registry, ["realtime", "batch"])  # type: ignore[assignment]
    one.start()
    answers = Answers(
        one.settings, registry, away=dict, verdicts=lambda: one.coordinator.verdicts, healthy=lambda: True
    )

    def paused_seconds() -> float | None:
        return registry.get_sample_value("gpumem_coordinator_lane_paused_seconds", {"lane": "batch"})

    assert answers.to("/v1/lanes")[0] == 503
    one.coordinator.turn()
    one.clock.advance(50_000)
    one.coordinator.turn()
    assert answers.to("/v1/lanes")[0] == 200
    assert (paused_seconds() or 0) >= 50_000
    one.leadership.leading = False
    one.coordinator.turn()
    assert paused_seconds() == 0
    assert registry.get_sample_value("gpumem_coordinator_lane_waiting_jobs", {"lane": "batch"}) is None
    status, _, body, headers = answers.to("/v1/lanes")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert b"does not lead" in body


def test_a_missing_right_of_the_engines_watch_ends_the_run() -> None:
    one = world(IDLE, queue("batch"))
    one.watch.failure = Forbidden("list Node: 403")
    with pytest.raises(Forbidden, match="list Node"):
        one.coordinator.run()


def test_a_dry_run_says_each_thing_once_and_leaves_everything_as_it_is() -> None:
    one = world(WORKING, queue("batch"), dry_run=True)
    for count in (1, 2, 3):
        one.redis.queues["ai-realtime"] = queue("realtime", active_count=count)
        one.coordinator.pass_over((QueueEvent("ai-batch", "paused", 0),))
    assert (one.redis.did, one.redis.documents) == (["snapshot"] * 3, {})
    assert one.metrics.acts == [("batch", "pause", "dry_run")]
    one.redis.marks["ai-batch"] = mark("batch")
    one.redis.queues |= {"ai-realtime": IDLE, "ai-batch": queue("batch", paused=True)}
    one.clock.advance(6)
    decisions = one.coordinator.pass_over(())
    assert any(isinstance(decision, Resume) for decision in decisions)
    assert one.redis.marks
    assert [len(one.log.of(event)) for event in ("would_pause", "would_resume")] == [1, 1]


@pytest.mark.parametrize("missing", ["v4", "v5 v6", "v4 v5 v6"])
def test_missing_clients_are_one_error_that_names_them_all(missing: str, tmp_path: Path) -> None:
    for major in {"v4", "v5", "v6"} - set(missing.split()):
        for name in ("bullmq", "ioredis"):
            (tmp_path / major / "node_modules" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=rf"clients {', '.join(missing.split())} are not installed.*--clients-folder"):
        check_clients(tmp_path)


def test_without_node_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="PATH has no node"):
        check_clients(tmp_path)


def test_outside_kubernetes_a_tenant_is_asked_on_the_machine_of_its_ollama() -> None:
    here = engine_rule(engine={"tenant": "ollama", "ollama_url": "http://localhost:11434"})
    (asked,) = EngineHosts((here,)).of(HOOK)
    assert (asked.target.address in ("127.0.0.1", "::1"), asked.pod) == (True, None)
    with pytest.raises(DependencyError, match="add an engine for ollama"):
        EngineHosts(()).of(HOOK)
    nowhere = engine_rule(engine={"tenant": "ollama", "ollama_url": "http://nowhere.invalid:11434"})
    with pytest.raises(DependencyError, match=r"nowhere\.invalid has no address"):
        EngineHosts((nowhere,)).of(HOOK)
