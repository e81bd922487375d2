"""Release and restore on real workloads, with the real controllers running beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.budget import WorkloadIdentity
from helpers.domain.errors import CheckFailed
from helpers.ports.cluster import ObjectRef
from helpers.services.release import release, restore, set_replicas
from lab.cluster import Lab
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

NAMESPACE = "release-test"
PREFIX = "gpumem.io"


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> KubernetesCluster:
    cluster = connect(lab.kubeconfig)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.apply(namespace, field_manager="test")
    return cluster


@pytest.fixture(params=["Deployment", "StatefulSet"])
def identity(lab: Lab, cluster: KubernetesCluster, request: pytest.FixtureRequest) -> Iterator[WorkloadIdentity]:
    kind = str(request.param)
    labels = {"app": "tenant"}
    pod = {"containers": [{"name": "main", "image": "x"}], "terminationGracePeriodSeconds": 0}
    workload: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "tenant", "namespace": NAMESPACE},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    cluster.create(workload, field_manager="owner")
    yield WorkloadIdentity(tenant="tenant", namespace=NAMESPACE, kind=kind, workload="tenant")
    lab.api().delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind.lower()}s/tenant")
    wait_for(lambda: not pods(cluster))


def pods(cluster: KubernetesCluster) -> list[str]:
    found = cluster.list(ObjectRef("v1", "Pod", namespace=NAMESPACE))
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def test_its_pods_go_and_come_back_in_number(cluster: KubernetesCluster, identity: WorkloadIdentity) -> None:
    wait_for(lambda: len(pods(cluster)) == 2)
    assert release(cluster, identity, PREFIX).changed
    wait_for(lambda: not pods(cluster))
    assert not release(cluster, identity, PREFIX).changed
    assert not set_replicas(cluster, identity, 2, PREFIX).changed
    assert restore(cluster, identity, PREFIX).changed
    wait_for(lambda: len(pods(cluster)) == 2)
    with pytest.raises(CheckFailed, match="was not released"):
        restore(cluster, identity, PREFIX)


def test_a_number_that_is_set_while_released_waits_for_the_restore(
    cluster: KubernetesCluster, identity: WorkloadIdentity
) -> None:
    release(cluster, identity, PREFIX)
    assert set_replicas(cluster, identity, 1, PREFIX).changed
    wait_for(lambda: not pods(cluster))
    restore(cluster, identity, PREFIX)
    wait_for(lambda: len(pods(cluster)) == 1)


def test_a_release_succeeds_while_the_controller_writes_the_status(
    cluster: KubernetesCluster, identity: WorkloadIdentity
) -> None:
    for replicas in (3, 1, 4, 2):
        set_replicas(cluster, identity, replicas, PREFIX)
        release(cluster, identity, PREFIX)
        assert f"to {replicas} replicas" in restore(cluster, identity, PREFIX).message
