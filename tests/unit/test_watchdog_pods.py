"""Pods and endpoints as the watchdog reads them: whose a pod is, its budget, its protection, a cache that keeps up."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.domain.dra.naming import DRIVER
from helpers.ports.cluster import ObjectRef, WatchEvent
from helpers.services.watchdog_pods import PodReading, PodView, trimmed, watched_pod
from helpers.services.watchdog_targets import DiscoveredTargets, targets_of
from tests.fakes.cluster import FakeCluster
from tests.fakes.watchdog_world import NODE, settings, tenant_pod
from tests.fakes.world import RESOURCE, node


def facts(pod: dict[str, Any]) -> Any:
    pod["metadata"].setdefault("uid", "u1")
    whole = watched_pod(pod, PodReading(settings(), RESOURCE, "gpumem.io"))
    small = watched_pod(trimmed(pod), PodReading(settings(), RESOURCE, "gpumem.io"))
    assert whole == small, "trimming changes nothing that is read"
    return whole.facts if whole else None


def test_a_deployments_pod_is_its_tenants() -> None:
    found = facts(tenant_pod("immich-ml"))
    assert (found.tenant, found.budget_mib, found.owner_kind, found.owner_name) == (
        "immich-ml",
        3000,
        "ReplicaSet",
        "immich-ml",
    )


@pytest.mark.parametrize(("spelled", "mib"), [("3k", 3000), ("5e3", 5000), ("1P", 10**15), ("0", 0)])
def test_fact_1_every_spelling_of_a_budget_counts(spelled: str, mib: int) -> None:
    assert facts(tenant_pod("immich-ml", budget=spelled)).budget_mib == mib


def test_fact_1_a_budget_that_cannot_be_read_is_a_problem_and_not_an_absent_one() -> None:
    found = facts(tenant_pod("immich-ml", budget="3 GiB"))
    assert found.budget_mib is None
    assert "3 GiB" in found.budget_problem


def test_a_pod_of_the_same_name_in_another_namespace_is_nobodys() -> None:
    pod = tenant_pod("immich-ml")
    pod["metadata"]["namespace"] = "elsewhere"
    assert facts(pod).tenant is None
    assert facts(pod).subject == "elsewhere/ReplicaSet/immich-ml"


def test_a_bare_pod_and_one_that_ended() -> None:
    bare = tenant_pod("immich-ml", ownerReferences=[])
    assert facts(bare).owner_kind is None
    ended = tenant_pod("immich-ml")
    ended["status"]["phase"] = "Failed"
    assert facts(ended) is None


@pytest.mark.parametrize(("value", "protected"), [("true", True), ("yes", True), ("", True), ("false", False)])
def test_protection_is_taken_back_only_by_saying_so(value: str, protected: bool) -> None:
    assert facts(tenant_pod("ollama", annotations={"gpumem.io/protected": value})).protected is protected


def test_a_pod_that_the_watch_told_of_while_the_list_was_answered_is_kept() -> None:
    cluster = FakeCluster()
    cluster.add(node(NODE))
    view = PodView(cluster, PodReading(settings(), RESOURCE, "gpumem.io"))
    cluster.add(tenant_pod("frigate"))
    answer = cluster.list

    def late(*arguments: Any, **named: Any) -> Any:
        listed = answer(*arguments, **named)
        cluster.add(tenant_pod("ollama"))
        cluster.remove(ObjectRef("v1", "Pod", "frigate-5d9c-0", "frigate"))
        watched_to_the_end(view, cluster)
        return listed

    watched_to_the_end(view, cluster)
    cluster.list = late  # type: ignore[method-assign]
    view.fresh(NODE)
    assert "ollama" in {pod.namespace for pod in view.all()}


def watched_to_the_end(view: PodView, cluster: FakeCluster) -> None:
    view.follow(lambda: True)


def test_whatever_ends_a_watch_is_left_where_the_loop_looks() -> None:
    """A follower that died unseen would leave a cache that stands still, and a watchdog that goes by it."""
    cluster, error = FakeCluster(), OSError(errno.EBADF, "Bad file descriptor")

    def ends(*_: object, **__: object) -> Iterator[WatchEvent]:
        raise error

    cluster.watch = ends  # type: ignore[method-assign]
    view = PodView(cluster, PodReading(settings(), RESOURCE, "gpumem.io", DRIVER))
    targets = DiscoveredTargets(cluster, namespace="nvidia", service="gpumem-exporter")
    for follow, owner in (
        (view.follow, view),
        (view.claims.follow, view.claims),
        (view.claims.follow_slices, view.claims),
        (targets.follow, targets),
    ):
        owner.failure = None
        follow(lambda: False)
        assert owner.failure is error


def test_endpoints_become_targets_by_address_ready_or_not() -> None:
    found = targets_of(
        {
            "addressType": "IPv6",
            "ports": [{"name": "other", "port": 1}, {"name": "metrics", "port": 9836}],
            "endpoints": [
                {"addresses": ["fd00::7"], "nodeName": "a", "conditions": {"ready": False}},
                {"addresses": ["fd00::8"]},
            ],
        }
    )
    assert [(target.node, target.url) for target in found] == [("a", "http://[fd00::7]:9836/metrics")]
