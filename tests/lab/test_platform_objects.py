"""What the platform stack renders, applied to a real API server with the engines' published CRDs.

Applied is with strict field validation, so a field that a CRD does not know is an error. Whether
NetworkPolicies hold traffic back is a network plugin's to show; there is none here.
"""

from __future__ import annotations

from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.errors import ClusterError
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import ObjectRef
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from lab import rights
from lab.cluster import Lab
from lab.waiting import wait_for
from tests.fixtures.platform_lab import ApplyCrds
from tests.synth.estates import PROJECT, shipped

pytestmark = pytest.mark.lab

ESTATE = shipped(PROJECT / "estates/gpu-pools.yaml")


@pytest.fixture(scope="module")
def cluster(platform_lab: Lab) -> KubernetesCluster:
    return connect(platform_lab.kubeconfig)


def with_manager(**changes: Any) -> Estate:
    assert ESTATE.manager is not None
    return ESTATE.model_copy(update={"manager": ESTATE.manager.model_copy(update=changes)})


def objects(estate: Estate, *components: str) -> list[RenderedObject]:
    found = [item for item in render(estate).wave(2).ordered() if isinstance(item, RenderedObject)]
    chosen = [item for item in found if not components or item.component in components]
    assert chosen
    return chosen


def apply_all(cluster: KubernetesCluster, items: list[RenderedObject]) -> None:
    for item in items:
        cluster.apply(item.manifest, field_manager="test")


def make_namespaces(cluster: KubernetesCluster, estate: Estate) -> None:
    assert estate.manager is not None
    for name in [estate.namespace, GPU_SYSTEM_NAMESPACE, *(project.name for project in estate.manager.projects)]:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, field_manager="owner")


def test_the_api_server_takes_every_object_of_the_third_estate(
    cluster: KubernetesCluster, serve_crds: ApplyCrds
) -> None:
    serve_crds("karpenter", "karpenter-aws")
    make_namespaces(cluster, ESTATE)
    items = objects(ESTATE)
    assert {"NodePool", "EC2NodeClass", "NodeOverlay", "ResourceQuota", "NetworkPolicy", "ConfigMap"} <= {
        item.kind for item in items
    }
    apply_all(cluster, items)
    (pool,) = [dict(item.manifest) for item in items if item.address == "node-pool-gpu-t4"]
    wrong = {**pool, "spec": {**pool["spec"], "providerRef": {"name": "gpu-provider"}}}
    with pytest.raises(ClusterError, match="providerRef"):  # a field of the Provisioner that NodePools replaced
        cluster.apply(wrong, field_manager="test")


@pytest.mark.parametrize("provisioning_class", [None, "check-capacity.autoscaling.x-k8s.io"])
def test_kueues_own_schema_takes_the_queues(
    cluster: KubernetesCluster, serve_crds: ApplyCrds, provisioning_class: str | None
) -> None:
    serve_crds("kueue")
    assert ESTATE.manager is not None
    queues = ESTATE.manager.queues.model_copy(
        update={"provisioning_class": provisioning_class, "borrowing_gpu_count": 4}
    )
    estate = with_manager(
        engine="kueue", queues=queues, node_pools=() if provisioning_class else ESTATE.manager.node_pools
    )
    make_namespaces(cluster, estate)
    items = objects(estate, "kueue")
    kinds = {item.kind for item in items}
    assert {"ResourceFlavor", "ClusterQueue", "LocalQueue", "WorkloadPriorityClass"} <= kinds
    assert ("AdmissionCheck" in kinds) == (provisioning_class is not None)
    apply_all(cluster, items)


def test_volcanos_own_schema_takes_the_queues(cluster: KubernetesCluster, serve_crds: ApplyCrds) -> None:
    serve_crds("volcano")
    apply_all(cluster, objects(with_manager(engine="volcano"), "volcano"))


def test_a_quota_counts_what_is_requested_and_nothing_under_limits(cluster: KubernetesCluster) -> None:
    """The third reference: `limits.nvidia.com/gpu` is accepted and does nothing."""
    namespace = "quota-test"
    meta = {"name": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}, field_manager="test")
    hard = {"requests.nvidia.com/gpu": "2", "limits.nvidia.com/gpu": "1"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta | {"namespace": namespace}}
    cluster.apply(quota | {"spec": {"hard": hard}}, field_manager="test")
    container = {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "two", "namespace": namespace}}
    account = ObjectRef("v1", "ServiceAccount", name="default", namespace=namespace)
    wait_for(lambda: cluster.get(account))
    wait_for(lambda: (used(cluster, namespace) or {}).get("requests.nvidia.com/gpu") == "0")
    cluster.create(pod | {"spec": {"containers": [container]}}, field_manager="test")
    wait_for(lambda: (used(cluster, namespace) or {}).get("requests.nvidia.com/gpu") == "2")
    assert "limits.nvidia.com/gpu" not in (used(cluster, namespace) or {})


def used(cluster: KubernetesCluster, namespace: str) -> dict[str, str] | None:
    found = cluster.get(ObjectRef("v1", "ResourceQuota", name=namespace, namespace=namespace))
    return None if found is None else found.get("status", {}).get("used")


@pytest.mark.parametrize(
    ("group", "namespace", "verb", "resource", "allowed"),
    [
        ("ml-research", "ml-research", "create", "gpujobs", True),
        ("ml-research", "ml-research", "delete", "gpujobs", True),
        ("ml-research", "analytics", "create", "gpujobs", False),
        ("ml-research", "analytics", "get", "gpujobs", False),
        ("ml-research", "ml-research", "create", "pods", False),
        ("finops", "analytics", "list", "gpujobs", True),
        ("finops", "analytics", "create", "gpujobs", False),
    ],
)
def test_a_project_is_its_own_peoples(
    platform_lab: Lab, cluster: KubernetesCluster, group: str, namespace: str, verb: str, resource: str, allowed: bool
) -> None:
    make_namespaces(cluster, ESTATE)
    apply_all(cluster, [item for item in objects(ESTATE, "projects") if item.kind in ("Role", "RoleBinding")])
    attributes = {
        "group": "gpumem.io" if resource == "gpujobs" else "",
        "resource": resource,
        "verb": verb,
        "namespace": namespace,
    }
    wait_for(lambda: rights.allowed(platform_lab.api(), "somebody", attributes, [group]) is allowed)
