"""The gate: opens when every node shows its number, and says what keeps it closed."""

from __future__ import annotations

import pytest

from helpers.domain.capacity import Shortfall
from helpers.domain.errors import ClusterError, Forbidden
from helpers.services.gate import verify
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock
from tests.fakes.world import RESOURCE, node, node_ref, settings

FULL = {RESOURCE: "14k", "nvidia.com/gpu": "8"}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_it_is_open_where_every_node_shows_its_number(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.add(node(resources=FULL))
    assert verify(cluster, settings(), clock, 120) == ()
    assert clock.slept == []


def test_a_node_without_the_number_is_named_with_what_is_wanted(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.add(node("gpu-0", resources=FULL))
    cluster.add(node("gpu-1"))
    (shortfall,) = verify(cluster, settings(), clock, 0)
    assert shortfall.message() == "node gpu-1: allocatable viktorbarzin.me/gpumem is absent, wanted 14000 MiB"
    assert clock.slept == []


def test_it_waits_until_the_number_comes(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.add(node())

    def third_poll() -> None:
        if len(clock.slept) == 3:
            cluster.write(node_ref(), {"status": {"allocatable": {RESOURCE: "14k"}}}, subresource="status")

    clock.when_slept = third_poll
    assert verify(cluster, settings(), clock, 120) == ()
    assert len(clock.slept) == 3


def test_it_gives_up_when_the_time_is_over(cluster: FakeCluster, clock: FakeClock) -> None:
    (shortfall,) = verify(cluster, settings(), clock, 3)
    assert shortfall.subject == "nodes[t4-node]"
    assert sum(clock.slept) == 3


def test_an_elastic_pool_without_nodes_is_open(cluster: FakeCluster, clock: FakeClock) -> None:
    assert verify(cluster, settings(min_nodes=0), clock, 0) == ()


def test_another_server_version_is_said_at_once(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.version = "1.35"
    cluster.add(node(resources=FULL))
    (shortfall,) = verify(cluster, settings(), clock, 120)
    assert shortfall.message() == (
        "API server: Kubernetes 1.35, wanted 1.36 (kubernetes.version in the estate: correct it and render again)"
    )
    assert clock.slept == []


@pytest.mark.parametrize("shown", ["0", "4", "16"])
def test_shares_that_the_plugin_offers_otherwise_keep_it_closed(
    cluster: FakeCluster, clock: FakeClock, shown: str
) -> None:
    cluster.add(node(resources={**FULL, "nvidia.com/gpu": shown}))
    expected = Shortfall("node gpu-0", f"allocatable nvidia.com/gpu is {shown}", "8 shares")
    assert verify(cluster, settings(), clock, 0) == (expected,)


def test_a_node_without_a_device_plugin_is_not_held_against_it(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.add(node(resources={RESOURCE: "14k"}))
    assert verify(cluster, settings(), clock, 0) == ()


def test_an_api_that_does_not_answer_is_an_error_at_once(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.fail_next("list", ClusterError("no answer"))
    with pytest.raises(ClusterError, match="no answer"):
        verify(cluster, settings(), clock, 120)
    assert clock.slept == []


def test_an_api_that_stops_answering_while_it_waits_is_waited_for(cluster: FakeCluster, clock: FakeClock) -> None:
    cluster.add(node())

    def blip() -> None:
        if len(clock.slept) == 1:
            cluster.fail_next("list", ClusterError("no answer"))
            cluster.write(node_ref(), {"status": {"allocatable": {RESOURCE: "14k"}}}, subresource="status")

    clock.when_slept = blip
    assert verify(cluster, settings(), clock, 120) == ()


def test_an_api_that_never_comes_back_is_an_error_in_the_end(cluster: FakeCluster, clock: FakeClock) -> None:
    clock.when_slept = lambda: cluster.fail_next("list", ClusterError("no answer"))
    with pytest.raises(ClusterError, match="no answer"):
        verify(cluster, settings(), clock, 2)


def test_a_missing_permission_is_not_waited_for(cluster: FakeCluster, clock: FakeClock) -> None:
    clock.when_slept = lambda: cluster.forbid("list", "Node")
    with pytest.raises(Forbidden, match="cannot list resource Node"):
        verify(cluster, settings(), clock, 120)
    assert len(clock.slept) == 1
