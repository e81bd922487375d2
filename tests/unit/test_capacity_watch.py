"""The watch: answers events, never loops on what it cannot change, and survives what passes."""

from __future__ import annotations

import pytest

from helpers.domain.capacity import CapacitySettings
from helpers.domain.errors import ClusterError, Forbidden
from helpers.ports.cluster import ObjectRef
from helpers.services.capacity_watch import CONTEST_WRITES_COUNT, WatchPorts, watch_capacity
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeCapacityMetrics, FakeClock, FakeEvents, FakeLeadership, FakeLog
from tests.fakes.world import GPU_LABELS, RESOURCE, node, node_ref, pod, settings


class World:
    """A cluster with a watch on it; what is queued in `cluster.meanwhile` happens, then the watch stops."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.clock = FakeClock()
        self.log = FakeLog()
        self.events = FakeEvents()
        self.metrics = FakeCapacityMetrics()
        self.leadership = FakeLeadership()
        self.stopped = False

    def run(self, wanted: CapacitySettings | None = None, *, dry_run: bool = False) -> None:
        self.cluster.meanwhile.append(self.stop)
        ports = WatchPorts(self.cluster, self.leadership, self.events, self.metrics, self.clock, self.log)
        watch_capacity(ports, wanted or settings(), stop=lambda: self.stopped, dry_run=dry_run)

    def stop(self) -> None:
        self.stopped = True

    def then(self, *happenings: object) -> None:
        for happening in happenings:
            assert callable(happening)
            self.cluster.meanwhile.append(happening)

    def shown(self) -> str | None:
        amount: str | None = self.cluster.now(node_ref())["status"]["capacity"].get(RESOURCE)
        return amount

    def take_off(self) -> None:
        nothing = {RESOURCE: None}
        patch = {"status": {"capacity": nothing, "allocatable": nothing}}
        self.cluster.write(node_ref(), patch, manager="meddler", subresource="status")


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_that_is_there_at_the_start_gets_its_number(world: World) -> None:
    world.cluster.add(node())
    world.run()
    assert world.shown() == "14k"
    assert world.metrics.advertised_mib == {"gpu-0": 14000}
    assert world.metrics.asserts == [("gpu-0", "set")]
    assert len(world.metrics.succeeded_at) == 1


def test_a_node_that_registers_again_gets_its_number_at_that_event(world: World) -> None:
    """Field fault 5: hourly re-assertion left an hour of Pending."""
    world.cluster.add(node())
    world.then(lambda: world.cluster.remove(node_ref()), lambda: world.cluster.add(node()))
    world.run()
    assert world.shown() == "14k"
    assert world.clock.seconds == 1000.0  # no timer took part


def test_a_deleted_node_has_no_series_any_more(world: World) -> None:
    world.cluster.add(node())
    world.then(lambda: world.cluster.remove(node_ref()))
    world.run()
    assert world.metrics.advertised_mib == {}


def test_a_number_that_somebody_takes_off_comes_back(world: World) -> None:
    world.cluster.add(node())
    world.then(world.take_off)
    world.run()
    assert world.shown() == "14k"
    assert [reason for _, _, reason, _ in world.events.recorded] == ["GpumemCapacitySet"] * 2


def test_a_node_that_gets_the_label_later_gets_the_number_then(world: World) -> None:
    world.cluster.add(node(labels={}))
    world.then(lambda: world.cluster.write(node_ref(), {"metadata": {"labels": GPU_LABELS}}))
    world.run()
    assert world.shown() == "14k"


def test_events_that_left_before_our_write_are_answered_once_in_log_and_events(world: World) -> None:
    world.cluster.add(node())

    def register_in_several_steps() -> None:
        world.cluster.remove(node_ref())
        world.cluster.add(node())
        for step in range(8):
            world.cluster.write(node_ref(), {"metadata": {"annotations": {"step": str(step)}}}, manager="kubelet")

    world.then(register_in_several_steps)
    world.run()
    assert len(world.log.of("capacity_set")) == 2
    assert not world.log.of("capacity_contested")


def test_a_refused_lowering_is_said_once_however_many_events_follow(world: World) -> None:
    world.cluster.add(node(resources={RESOURCE: "14k"}))
    world.cluster.add(pod("immich-ml", "13k"))
    for step in range(5):
        beat = {"metadata": {"annotations": {"step": str(step)}}}
        world.then(lambda beat=beat: world.cluster.write(node_ref(), beat))
    world.run(settings(6000))
    assert len(world.log.of("capacity_lowering_refused")) == 1
    assert [reason for _, _, reason, _ in world.events.recorded] == ["GpumemCapacityRefused"]
    assert world.shown() == "14k"
    assert world.metrics.advertised_mib == {"gpu-0": 14000}
    assert not world.metrics.succeeded_at


def test_a_refused_lowering_is_done_once_the_pods_are_gone(world: World) -> None:
    world.cluster.add(node(resources={RESOURCE: "14k"}))
    gone = pod("immich-ml", "13k")
    world.cluster.add(gone)

    def leave() -> None:
        world.cluster.remove(ObjectRef("v1", "Pod", "immich-ml", "immich"))
        world.cluster.write(node_ref(), {"metadata": {"annotations": {"beat": "1"}}})

    world.then(leave)
    world.run(settings(6000))
    assert world.shown() == "6k"


def test_pods_are_read_only_where_the_number_would_go_down(world: World) -> None:
    world.cluster.add(node())
    world.cluster.forbid("list", "Pod")
    world.run()
    assert world.shown() == "14k"


def test_every_node_is_looked_at_again_after_a_while_though_no_event_came(world: World) -> None:
    world.cluster.add(node())
    world.then(lambda: world.clock.advance(301))
    world.run()
    assert len(world.log.of("capacity_checked")) == 2
    assert len(world.metrics.succeeded_at) == 2


def test_a_write_that_the_api_did_not_answer_is_tried_again_soon(world: World) -> None:
    world.cluster.add(node())
    world.cluster.fail_next("patch", ClusterError("no answer"), ClusterError("no answer"))
    world.then(lambda: world.clock.advance(1.5), lambda: world.clock.advance(3))
    world.run()
    assert world.shown() == "14k"
    assert len(world.log.of("capacity_write_failed")) == 2


def test_an_api_that_is_away_at_the_start_is_waited_for_with_growing_pauses(world: World) -> None:
    world.cluster.add(node())
    world.cluster.fail_next("list", *(ClusterError("no answer") for _ in range(3)))
    world.run()
    assert world.clock.slept == [1.0, 2.0, 4.0]
    assert world.shown() == "14k"


@pytest.mark.parametrize(("verb", "resource"), [("list", "Node"), ("watch", "Node"), ("patch", "Node/status")])
def test_a_missing_permission_ends_the_watch(world: World, verb: str, resource: str) -> None:
    world.cluster.add(node())
    world.cluster.forbid(verb, resource)
    with pytest.raises(Forbidden, match=resource):
        world.run()


def test_only_the_leader_writes(world: World) -> None:
    world.cluster.add(node())
    world.leadership.leading = False
    world.clock.when_slept = world.stop
    world.run()
    assert world.shown() is None
    assert world.cluster.calls == []


def test_who_loses_the_lead_stops_writing_and_looks_at_everything_when_it_is_back(world: World) -> None:
    world.cluster.add(node())

    def lose() -> None:
        world.leadership.leading = False
        world.take_off()
        world.clock.when_slept = regain

    def regain() -> None:
        assert world.shown() is None
        world.leadership.leading = True

    world.then(lose)
    world.run()
    assert world.shown() == "14k"


def test_somebody_who_writes_against_us_is_not_fought_at_full_speed(world: World) -> None:
    world.cluster.add(node())

    def meddle() -> None:
        patch = {"status": {"capacity": {RESOURCE: "9k"}}}
        world.cluster.write(node_ref(), patch, manager="meddler", subresource="status")

    world.then(*(meddle for _ in range(CONTEST_WRITES_COUNT)), lambda: world.clock.advance(60))
    world.run()
    assert len(world.log.of("capacity_set")) == CONTEST_WRITES_COUNT + 1
    contested = world.log.of("capacity_contested")
    assert len(contested) == 1
    assert "meddler" in str(contested[0]["reason"])
    assert world.shown() == "14k"


def test_an_unclear_node_is_said_once_and_does_not_end_the_watch(world: World) -> None:
    twin = settings().nodes[0].model_copy(update={"name": "twin", "labels": {"zone": "a"}})
    world.cluster.add(node("gpu-0", labels={**GPU_LABELS, "zone": "a"}))
    world.then(lambda: world.cluster.write(node_ref(), {"metadata": {"annotations": {"beat": "1"}}}))
    world.then(lambda: world.cluster.add(node("gpu-1")))
    world.run(settings(twin=twin))
    assert len(world.log.of("capacity_node_unclear")) == 1
    assert world.metrics.advertised_mib == {"gpu-1": 14000}


def test_a_dry_run_writes_nothing_and_says_it_once(world: World) -> None:
    world.cluster.add(node())
    world.then(lambda: world.cluster.write(node_ref(), {"metadata": {"annotations": {"beat": "1"}}}))
    world.run(dry_run=True)
    assert world.shown() is None
    assert len(world.log.of("capacity_set")) == 1
