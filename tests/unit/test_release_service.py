"""Release and restore remember on the object; replicas of rendered tenants give way to a release."""

from __future__ import annotations

import pytest

from helpers.domain.budget import WorkloadIdentity
from helpers.domain.errors import CheckFailed, Conflict
from helpers.services.release import release, restore, set_replicas
from tests.fakes.cluster import FakeCluster
from tests.fakes.world import workload, workload_ref

PREFIX = "gpumem.io"
ANNOTATION = "gpumem.io/released-replicas"


def identity(kind: str = "Deployment") -> WorkloadIdentity:
    return WorkloadIdentity(tenant="immich-server", namespace="immich", kind=kind, workload="immich-server")


def world(kind: str = "Deployment", replicas: int = 3) -> FakeCluster:
    cluster = FakeCluster()
    cluster.add(workload(kind, replicas=replicas))
    return cluster


def state(cluster: FakeCluster, kind: str = "Deployment") -> tuple[int, str | None]:
    found = cluster.now(workload_ref(kind))
    return found["spec"]["replicas"], found["metadata"].get("annotations", {}).get(ANNOTATION)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_release_and_restore_bring_back_what_was_there(kind: str) -> None:
    cluster = world(kind)
    assert release(cluster, identity(kind), PREFIX).changed
    assert state(cluster, kind) == (0, "3")
    assert restore(cluster, identity(kind), PREFIX).changed
    assert state(cluster, kind) == (3, None)


def test_a_second_release_keeps_what_is_remembered() -> None:
    cluster = world()
    release(cluster, identity(), PREFIX)
    outcome = release(cluster, identity(), PREFIX)
    assert not outcome.changed
    assert "is released already and goes back to 3 replicas" in outcome.message
    assert state(cluster) == (0, "3")


def test_a_workload_without_replicas_is_nothing_to_release() -> None:
    cluster = world(replicas=0)
    assert not release(cluster, identity(), PREFIX).changed
    assert state(cluster) == (0, None)


def test_one_that_was_scaled_up_after_a_release_is_released_from_the_newer_number() -> None:
    cluster = world()
    release(cluster, identity(), PREFIX)
    cluster.write(workload_ref(), {"spec": {"replicas": 5}})
    assert release(cluster, identity(), PREFIX).changed
    assert state(cluster) == (0, "5")


def test_restore_without_a_release_is_refused() -> None:
    with pytest.raises(CheckFailed, match=r"was not released \(no annotation gpumem\.io/released-replicas\)"):
        restore(world(), identity(), PREFIX)


@pytest.mark.parametrize("text", ["", "three", "-1", "0", "1.5"])
def test_an_annotation_that_is_no_number_is_refused_with_its_text(text: str) -> None:
    cluster = world(replicas=0)
    cluster.write(workload_ref(), {"metadata": {"annotations": {ANNOTATION: text}}})
    with pytest.raises(CheckFailed, match="is no number of replicas above 0") as failed:
        restore(cluster, identity(), PREFIX)
    assert repr(text) in str(failed.value)


@pytest.mark.parametrize("act", [release, restore])
def test_a_daemonset_is_refused_with_the_reason(act: object) -> None:
    assert callable(act)
    cluster = FakeCluster()
    cluster.add(workload("DaemonSet"))
    with pytest.raises(CheckFailed, match="a DaemonSet has no replicas to scale"):
        act(cluster, identity("DaemonSet"), PREFIX)


@pytest.mark.parametrize("act", [release, restore])
def test_a_workload_that_is_not_there_is_refused(act: object) -> None:
    assert callable(act)
    with pytest.raises(CheckFailed, match="Deployment immich/immich-server is not there"):
        act(FakeCluster(), identity(), PREFIX)


def test_a_change_in_between_is_read_again_and_not_overwritten() -> None:
    cluster = world()
    read = cluster.get

    def get_then_scale(ref: object) -> object:
        found = read(workload_ref())
        cluster.get = read  # type: ignore[method-assign]
        cluster.write(workload_ref(), {"spec": {"replicas": 7}}, manager="autoscaler")
        return found

    cluster.get = get_then_scale  # type: ignore[method-assign,assignment]
    release(cluster, identity(), PREFIX)
    assert state(cluster) == (0, "7")


def test_an_object_that_never_rests_is_given_up_on() -> None:
    cluster = world()
    cluster.fail_next("patch", *(Conflict("modified") for _ in range(9)))
    with pytest.raises(Conflict):
        release(cluster, identity(), PREFIX)


def test_a_dry_run_changes_nothing() -> None:
    cluster = world()
    assert "dry run: " in release(cluster, identity(), PREFIX, dry_run=True).message
    assert state(cluster) == (3, None)


def test_replicas_are_set_only_where_they_differ() -> None:
    cluster = world()
    assert set_replicas(cluster, identity(), 2, PREFIX).changed
    assert state(cluster) == (2, None)
    assert not set_replicas(cluster, identity(), 2, PREFIX).changed


def test_replicas_of_a_released_workload_are_set_for_later() -> None:
    cluster = world()
    release(cluster, identity(), PREFIX)
    assert set_replicas(cluster, identity(), 2, PREFIX).changed
    assert state(cluster) == (0, "2")
    assert not set_replicas(cluster, identity(), 2, PREFIX).changed
    restore(cluster, identity(), PREFIX)
    assert state(cluster) == (2, None)


def test_replicas_under_the_replicas_manager_alone() -> None:
    cluster = world()
    set_replicas(cluster, identity(), 2, PREFIX)
    assert cluster.owned_by(workload_ref(), "gpumem-replicas") == {".spec.replicas"}
