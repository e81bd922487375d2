"""A card that is away, by whichever cause; and unloading, believed as it is measured."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.errors import ClusterError, Forbidden
from helpers.domain.lanes.durations import Durations
from helpers.domain.lanes.engines import EngineFacts, Unload, held_lanes, to_unload, why_no_node
from helpers.domain.lanes.settings import EngineRule
from helpers.ports.cluster import ObjectRef
from helpers.services.coordinator_engines import EngineWatch
from helpers.services.coordinator_nodes import NODES, NodeLooks
from tests.fakes.cluster import FakeCluster
from tests.fakes.coordinator_world import FakeCoordinatorMetrics, FakeEngines, engine_rule
from tests.fakes.lanes import queue, rule, settings, situation
from tests.fakes.outside import FakeClock, FakeLog

LABELS = {"gpu": "t4"}
WISH = Unload("ollama", "big", "batch needs small")


def node(name: str, status: str = "True", reason: str = "KubeletReady", **labels: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "reason": reason}
    metadata = {"name": name, "labels": labels or LABELS}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"conditions": [condition]}}


class Watched:
    """One engine's watch on fakes."""

    def __init__(self, *nodes: dict[str, Any], dry_run: bool = False, **fields: object) -> None:
        self.cluster = FakeCluster()
        for one in nodes:
            self.cluster.add(one)
        self.engines, self.clock, self.log = FakeEngines(), FakeClock(), FakeLog()
        self.metrics = FakeCoordinatorMetrics()
        looks = NodeLooks(self.cluster, self.clock, self.log)
        rules = (engine_rule(**{"node_labels": LABELS, **fields}),)
        self.watch = EngineWatch(self.engines, rules, self.clock, self.log, self.metrics, nodes=looks, dry_run=dry_run)

    def after(self, seconds: float) -> dict[str, str]:
        """Who is away after looking once a second for so long."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.watch.look()
        return dict(self.watch.away())


def test_a_ready_node_and_answers_are_a_card_that_is_there() -> None:
    assert Watched(node("desk")).after(30) == {}


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_node_that_is_not_ready_is_a_card_that_is_away(status: str) -> None:
    watched = Watched(node("desk", status, "NodeStatusUnknown"))
    assert watched.after(9) == {}
    away = watched.after(3)
    assert away["ollama"].startswith("node desk is NotReady (NodeStatusUnknown) (for 1")
    assert watched.log.of("fallback_began")
    watched.cluster.write(ObjectRef("v1", "Node", "desk"), node("desk"), subresource="status")
    assert watched.after(6) == {}
    assert watched.log.of("fallback_ended")
    assert watched.metrics.away == {"ollama": False}


def test_a_node_that_is_gone_is_named_by_its_entry() -> None:
    assert Watched(node("other", gpu="h100")).after(12)["ollama"].startswith("no node of desk is in the cluster")


def test_of_several_nodes_one_that_is_ready_is_enough() -> None:
    assert Watched(node("a", "False"), node("b")).after(20) == {}
    many = [node(name, "False", "KubeletNotReady") for name in "dcba"]
    assert why_no_node("pool", many) == (
        "node a is NotReady (KubeletNotReady), b is NotReady (KubeletNotReady), c is NotReady (KubeletNotReady) "
        "and 1 more"
    )
    assert why_no_node("pool", [{"metadata": {"name": "new"}}]) == "node new is NotReady (no condition)"


def test_an_engine_whose_machine_is_no_node_asks_nothing() -> None:
    watched = Watched(node_labels={})
    assert watched.after(20) == {}
    assert watched.cluster.calls == []


def test_nodes_are_asked_about_every_few_seconds_and_not_at_each_look() -> None:
    watched = Watched(node("desk"))
    watched.after(20)
    assert len(watched.cluster.calls) == 4


def test_an_api_that_is_silent_is_no_reason_to_switch_off_and_no_news_either() -> None:
    watched = Watched(node("desk"))
    watched.after(1)
    watched.cluster.fail_next("list", *[ClusterError("list Node: the API does not answer")] * 3)
    assert watched.after(15) == {}
    assert len(watched.log.of("nodes_unknown")) == 1
    away = Watched(node("desk", "False"))
    away.after(12)
    away.cluster.fail_next("list", *[ClusterError("list Node: the API does not answer")] * 3)
    assert set(away.after(10)) == {"ollama"}


def test_a_missing_right_ends_the_watch_and_the_coordinator_can_say_which() -> None:
    watched = Watched(node("desk"))
    watched.cluster.forbid("list", "Node")
    watched.watch.run(lambda: False)
    assert isinstance(watched.watch.failure, Forbidden)
    assert str(NODES.kind) in str(watched.watch.failure)


def test_what_nobody_foresaw_in_a_look_is_left_where_the_loop_sees_it() -> None:
    """A watch that died unseen would leave the last look standing."""
    watched, error = Watched(node("desk")), OSError("the connection is gone")

    def ends(rule: EngineRule) -> EngineFacts:
        raise error

    watched.engines.look = ends  # type: ignore[method-assign]
    watched.watch.run(lambda: False)
    assert watched.watch.failure is error


def test_who_is_silent_and_a_node_that_is_not_ready_are_both_named() -> None:
    watched = Watched(node("desk", "Unknown", "NodeStatusUnknown"))
    watched.engines.facts["ollama"] = EngineFacts("ollama", "Ollama does not answer: timed out")
    assert "NotReady (NodeStatusUnknown); Ollama does not answer: timed out" in watched.after(12)["ollama"]


def loaded(model: str = "big", free_mib: int | None = 500) -> EngineFacts:
    return EngineFacts("ollama", "", {model: 4608}, free_mib)


def test_a_model_counts_as_unloaded_when_the_card_shows_its_memory_free() -> None:
    watched = Watched(node("desk"))
    watched.engines.facts["ollama"] = loaded()
    watched.watch.look()
    watched.watch.wish((WISH,))
    watched.after(3)
    assert watched.engines.unloaded == [WISH]
    watched.engines.facts["ollama"] = EngineFacts("ollama", "", {}, 500)  # gone from the list, not from the card
    watched.after(2)
    assert watched.metrics.unloads == []
    watched.engines.facts["ollama"] = EngineFacts("ollama", "", {}, 5100)
    watched.after(1)
    assert watched.metrics.unloads == [("ollama", "freed")]
    assert watched.log.of("model_unloaded")[0]["freed_mib"] == 4600


def test_a_model_that_does_not_leave_is_said_and_asked_again() -> None:
    watched = Watched(node("desk"))
    watched.engines.facts["ollama"] = loaded()
    watched.watch.wish((WISH,))
    watched.after(23)
    assert watched.metrics.unloads == [("ollama", "overdue")]
    assert len(watched.engines.unloaded) == 2


def test_a_refused_unload_is_said() -> None:
    watched = Watched(node("desk"))
    watched.engines.facts["ollama"], watched.engines.refusal = loaded(), "status 500"
    watched.watch.wish((WISH,))
    watched.after(1)
    assert watched.metrics.unloads == [("ollama", "refused")]


def test_a_dry_run_unloads_nothing_and_says_once_what_it_would() -> None:
    watched = Watched(node("desk"), dry_run=True)
    watched.engines.facts["ollama"] = loaded()
    watched.watch.wish((WISH,))
    watched.after(30)
    assert watched.engines.unloaded == []
    assert watched.metrics.unloads == [("ollama", "dry_run")]


ONE_MODEL = settings(
    rule("realtime", "realtime", model="big").model_copy(update={"one_model": True}),
    rule("batch", model="small").model_copy(update={"one_model": True}),
    engines=(engine_rule(one_model=True),),
)


def test_the_other_model_is_asked_out_only_when_the_memory_is_needed_and_nobody_uses_it() -> None:
    facts = {"ollama": loaded("big")}
    assert to_unload(ONE_MODEL, situation(queue("realtime"), queue("batch")), facts) == ()
    waits = situation(queue("realtime"), queue("batch", wait_count=1))
    assert to_unload(ONE_MODEL, waits, facts) == (Unload("ollama", "big", "batch needs small"),)
    used = situation(queue("realtime", active_count=1), queue("batch", wait_count=1))
    assert to_unload(ONE_MODEL, used, facts) == ()


def test_a_lane_is_held_until_the_other_model_is_gone_and_the_memory_is_measured_free() -> None:
    now = situation(queue("realtime"), queue("batch", wait_count=1))
    assert "big is still in memory" in held_lanes(ONE_MODEL, now, {"ollama": loaded("big")})["batch"]
    leaving = {"ollama": EngineFacts("ollama", "", {}, 500)}
    assert held_lanes(ONE_MODEL, now, leaving)["batch"] == "small needs 4608 MiB, and 500 MiB are measured free"
    assert held_lanes(ONE_MODEL, now, {"ollama": EngineFacts("ollama", "", {}, 5000)}) == {}
    assert held_lanes(ONE_MODEL, now, {"ollama": EngineFacts("ollama", "", {"small": 4608}, 100)}) == {}


def test_how_long_a_realtime_job_waits_comes_from_what_batch_jobs_took() -> None:
    durations = Durations()
    assert durations.wait_seconds(0) == 0
    durations.heard("active", "1", 1000)
    assert durations.wait_seconds(2000) is None, "nobody knows how long the first one takes"
    durations.heard("completed", "1", 31_000)
    assert durations.wait_seconds(31_000) == 0
    durations.heard("active", "2", 40_000)
    assert durations.wait_seconds(50_000) == 20
    assert durations.wait_seconds(90_000) == 0, "longer than usual: any moment now"
    durations.heard("failed", "2", 91_000)
    assert durations.wait_seconds(91_000) == 0
