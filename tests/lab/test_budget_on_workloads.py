"""The budget's fields beside real owners: kubectl's client-side apply, and a server-side one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain import names
from helpers.domain.budget import BudgetFields, WorkloadIdentity
from helpers.domain.errors import CheckFailed, Conflict, ExitCode
from helpers.ports.cluster import ObjectRef
from helpers.services.budget import set_budget, unset_budget
from lab.cluster import Lab

pytestmark = pytest.mark.lab

NAMESPACE = "budget-test"
RESOURCE = "capacity.test/gpumem"
REF = ObjectRef("apps/v1", "Deployment", "immich-server", NAMESPACE)
IDENTITY = WorkloadIdentity(tenant="immich-server", namespace=NAMESPACE, kind="Deployment", workload="immich-server")


def fields(budget_mib: int = 5000, shares: int = 1, container: str = "main") -> BudgetFields:
    return BudgetFields(
        **IDENTITY.model_dump(),
        container=container,
        resource=RESOURCE,
        budget_mib=budget_mib,
        share_resource="nvidia.com/gpu",
        shares=shares,
    )


def manifest(image: str = "x:1", limits: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": "immich-server"}
    resources = {"limits": limits} if limits else {}
    containers = [{"name": "main", "image": image, "resources": resources}, {"name": "sidecar", "image": image}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "immich-server", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


class Owner:
    """`kubectl apply`, client-side or server-side."""

    def __init__(self, lab: Lab, *arguments: str) -> None:
        self._lab = lab
        self._arguments = arguments

    def apply(self, wanted: dict[str, Any]) -> None:
        command = [str(self._lab.bin("kubectl")), "--kubeconfig", str(self._lab.kubeconfig), "apply", "-f", "-"]
        done = subprocess.run(
            [*command, *self._arguments], input=json.dumps(wanted), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> KubernetesCluster:
    cluster = connect(lab.kubeconfig)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.apply(namespace, field_manager="test")
    return cluster


@pytest.fixture(params=[(), ("--server-side", "--field-manager=owner")], ids=["client-side", "server-side"])
def owner(lab: Lab, cluster: KubernetesCluster, request: pytest.FixtureRequest) -> Iterator[Owner]:
    yield Owner(lab, *request.param)
    lab.api().delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/immich-server")


def read(cluster: KubernetesCluster) -> Any:
    return cluster.get(REF)


def limits(cluster: KubernetesCluster) -> dict[str, str]:
    found: dict[str, str] = read(cluster)["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits", {})
    return found


def ours(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Our entry of managedFields, its time included; the controllers write theirs meanwhile."""
    entries = item["metadata"]["managedFields"]
    return [entry for entry in entries if entry["manager"] == names.FIELD_MANAGER_BUDGET]


def test_it_owns_its_fields_only_and_survives_the_owners_next_apply(cluster: KubernetesCluster, owner: Owner) -> None:
    owner.apply(manifest())
    assert set_budget(cluster, fields()).changed
    assert limits(cluster) == {RESOURCE: "5k", "nvidia.com/gpu": "1"}
    owner.apply(manifest(image="x:2", limits={"cpu": "2"}))
    assert limits(cluster) == {RESOURCE: "5k", "nvidia.com/gpu": "1", "cpu": "2"}
    mine: dict[str, Any] = {"f:limits": {f"f:{RESOURCE}": {}, "f:nvidia.com/gpu": {}}}
    containers = {'k:{"name":"main"}': {".": {}, "f:name": {}, "f:resources": mine}}
    (entry,) = ours(read(cluster))
    assert entry["fieldsV1"] == {"f:spec": {"f:template": {"f:spec": {"f:containers": containers}}}}


def test_a_second_run_is_no_new_generation_and_so_no_rollout(cluster: KubernetesCluster, owner: Owner) -> None:
    owner.apply(manifest())
    set_budget(cluster, fields())
    before = read(cluster)
    assert not set_budget(cluster, fields()).changed
    after = read(cluster)
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert ours(after) == ours(before)


def test_it_changes_moves_and_is_given_back_whole(cluster: KubernetesCluster, owner: Owner) -> None:
    owner.apply(manifest(limits={"cpu": "2"}))
    before = read(cluster)
    set_budget(cluster, fields())
    assert set_budget(cluster, fields(2500, shares=0)).changed
    assert limits(cluster) == {RESOURCE: "2500", "cpu": "2"}
    assert set_budget(cluster, fields(2500, container="sidecar")).changed
    assert limits(cluster) == {"cpu": "2"}
    assert unset_budget(cluster, IDENTITY).changed
    after = read(cluster)
    assert after["spec"] == before["spec"]
    assert not ours(after)
    owner.apply(manifest(image="x:3"))  # the owner can still change everything
    assert not unset_budget(cluster, IDENTITY).changed


def test_another_owners_other_number_is_named(cluster: KubernetesCluster, owner: Owner) -> None:
    owner.apply(manifest(limits={RESOURCE: "2k"}))
    with pytest.raises(CheckFailed) as refused:
        set_budget(cluster, fields())
    assert refused.value.exit_code is ExitCode.CHECK_FAILED
    assert 'conflict with "' in str(refused.value)
    assert f".resources.limits.{RESOURCE}" in str(refused.value)
    assert limits(cluster) == {RESOURCE: "2k"}
    set_budget(cluster, fields(), force=True)
    assert limits(cluster)[RESOURCE] == "5k"


def test_neither_workload_nor_container_is_created(cluster: KubernetesCluster, owner: Owner) -> None:
    with pytest.raises(CheckFailed, match="is not there"):
        set_budget(cluster, fields())
    assert read(cluster) is None
    assert "is gone" in unset_budget(cluster, IDENTITY).message
    owner.apply(manifest())
    with pytest.raises(CheckFailed, match="has no container mian; it has main, sidecar"):
        set_budget(cluster, fields(container="mian"))


def test_an_apply_to_a_workload_that_was_deleted_meanwhile_creates_nothing(
    cluster: KubernetesCluster, owner: Owner, lab: Lab
) -> None:
    """The uid in the applied object is what refuses it."""
    owner.apply(manifest())
    whole = {**manifest(), "metadata": {**manifest()["metadata"], "uid": read(cluster)["metadata"]["uid"]}}
    lab.api().delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/immich-server")
    with pytest.raises(Conflict, match=r"(?i)uid"):
        cluster.apply(whole, field_manager=names.FIELD_MANAGER_BUDGET)
    assert read(cluster) is None


def test_a_dry_run_keeps_nothing(cluster: KubernetesCluster, owner: Owner) -> None:
    owner.apply(manifest())
    before = read(cluster)
    assert set_budget(cluster, fields(), dry_run=True).changed
    assert read(cluster)["spec"] == before["spec"]
