"""The budget's fields in other people's workloads: put in, kept, changed, given back."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain import names
from helpers.domain.budget import BudgetFields, WorkloadIdentity
from helpers.domain.errors import CheckFailed, Forbidden
from helpers.services.budget import set_budget, unset_budget
from tests.fakes.cluster import FakeCluster
from tests.fakes.world import RESOURCE, workload, workload_ref

IDENTITY = WorkloadIdentity(tenant="immich-server", namespace="immich", kind="Deployment", workload="immich-server")


def fields(budget_mib: int = 1800, shares: int = 1, container: str = "main") -> BudgetFields:
    return BudgetFields(
        **IDENTITY.model_dump(),
        container=container,
        resource=RESOURCE,
        budget_mib=budget_mib,
        share_resource="nvidia.com/gpu",
        shares=shares,
    )


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.add(workload(), manager="helm")
    return cluster


def limits(cluster: FakeCluster, index: int = 0) -> dict[str, str]:
    container: dict[str, Any] = cluster.now(workload_ref())["spec"]["template"]["spec"]["containers"][index]
    found: dict[str, str] = container["resources"]["limits"]
    return found


def generation(cluster: FakeCluster) -> int:
    return int(cluster.now(workload_ref())["metadata"]["generation"])


def test_the_numbers_are_put_in_beside_what_is_there(cluster: FakeCluster) -> None:
    outcome = set_budget(cluster, fields())
    assert limits(cluster) == {"cpu": "1", RESOURCE: "1800", "nvidia.com/gpu": "1"}
    assert outcome.changed
    assert outcome.message == (
        "tenant immich-server: Deployment immich/immich-server container main: "
        "set viktorbarzin.me/gpumem=1800, nvidia.com/gpu=1"
    )


def test_nothing_but_the_numbers_is_owned(cluster: FakeCluster) -> None:
    set_budget(cluster, fields())
    here = '.spec.template.spec.containers[{"name":"main"}]'
    assert cluster.owned_by(workload_ref(), names.FIELD_MANAGER_BUDGET) == {
        f"{here}.name",
        f"{here}.resources.limits.{RESOURCE}",
        f"{here}.resources.limits.nvidia.com/gpu",
    }


def test_a_second_run_changes_nothing_and_says_so(cluster: FakeCluster) -> None:
    set_budget(cluster, fields(5000))
    before = generation(cluster)
    outcome = set_budget(cluster, fields(5000))
    assert not outcome.changed
    assert "has viktorbarzin.me/gpumem=5k, nvidia.com/gpu=1 already" in outcome.message
    assert generation(cluster) == before


def test_a_changed_number_is_changed_and_a_dropped_one_dropped(cluster: FakeCluster) -> None:
    set_budget(cluster, fields())
    assert set_budget(cluster, fields(2500, shares=0)).changed
    assert limits(cluster) == {"cpu": "1", RESOURCE: "2500"}


def test_another_container_gets_it_and_the_first_loses_it(cluster: FakeCluster) -> None:
    two = FakeCluster()
    two.add(workload(containers=("main", "worker")))
    set_budget(two, fields())
    set_budget(two, fields(container="worker"))
    assert limits(two, 0) == {"cpu": "1"}
    assert limits(two, 1) == {"cpu": "1", RESOURCE: "1800", "nvidia.com/gpu": "1"}


def test_a_workload_that_is_not_there_is_never_created(cluster: FakeCluster) -> None:
    empty = FakeCluster()
    with pytest.raises(CheckFailed, match="Deployment immich/immich-server is not there"):
        set_budget(empty, fields())
    assert not [call for call in empty.calls if call.startswith(("patch", "create"))]


def test_a_container_that_is_not_there_is_never_created(cluster: FakeCluster) -> None:
    with pytest.raises(CheckFailed, match="has no container mian; it has main"):
        set_budget(cluster, fields(container="mian"))
    assert limits(cluster) == {"cpu": "1"}


def test_a_number_of_another_owner_is_named_and_left(cluster: FakeCluster) -> None:
    theirs = workload()
    theirs["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"][RESOURCE] = "2k"
    other = FakeCluster()
    other.add(theirs, manager="argocd-controller")
    with pytest.raises(CheckFailed) as failed:
        set_budget(other, fields())
    assert 'conflict with "argocd-controller"' in str(failed.value)
    assert "or take them over with --force" in str(failed.value)
    assert limits(other)[RESOURCE] == "2k"
    assert set_budget(other, fields(), force=True).changed
    assert limits(other)[RESOURCE] == "1800"


def test_the_same_number_of_another_owner_is_shared(cluster: FakeCluster) -> None:
    theirs = workload()
    theirs["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"][RESOURCE] = "1800"
    other = FakeCluster()
    other.add(theirs, manager="helm")
    set_budget(other, fields(shares=0))
    unset_budget(other, IDENTITY)
    assert limits(other) == {"cpu": "1", RESOURCE: "1800"}


def test_unset_gives_back_ours_and_touches_nothing_else(cluster: FakeCluster) -> None:
    before = cluster.now(workload_ref())
    set_budget(cluster, fields())
    assert unset_budget(cluster, IDENTITY).changed
    after = cluster.now(workload_ref())
    assert after["spec"] == before["spec"]
    assert after["metadata"]["managedFields"] == before["metadata"]["managedFields"]


def test_unset_where_nothing_is_ours_writes_nothing(cluster: FakeCluster) -> None:
    before = cluster.now(workload_ref())
    outcome = unset_budget(cluster, IDENTITY)
    assert not outcome.changed
    assert "holds no budget of ours" in outcome.message
    assert cluster.now(workload_ref()) == before


def test_unset_of_a_workload_that_is_gone_is_fine() -> None:
    outcome = unset_budget(FakeCluster(), IDENTITY)
    assert not outcome.changed
    assert "is gone" in outcome.message


def test_a_dry_run_changes_nothing(cluster: FakeCluster) -> None:
    before = cluster.now(workload_ref())
    outcome = set_budget(cluster, fields(), dry_run=True)
    assert outcome.changed
    assert "would set viktorbarzin.me/gpumem=1800" in outcome.message
    assert cluster.now(workload_ref()) == before
    set_budget(cluster, fields())
    kept = cluster.now(workload_ref())
    assert "would be given back" in unset_budget(cluster, IDENTITY, dry_run=True).message
    assert cluster.now(workload_ref()) == kept


def test_a_missing_permission_surfaces(cluster: FakeCluster) -> None:
    cluster.forbid("patch", "Deployment")
    with pytest.raises(Forbidden):
        set_budget(cluster, fields())


def claimed() -> BudgetFields:
    return fields().model_copy(update={"claim_template": "gpumem-immich-server-1800", "shares": 0})


def pod_spec(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.now(workload_ref())["spec"]["template"]["spec"]
    return found


def test_a_claim_replaces_the_numbers_that_were_ours(cluster: FakeCluster) -> None:
    set_budget(cluster, fields())
    outcome = set_budget(cluster, claimed())
    assert outcome.message.endswith("container main: set claim template gpumem-immich-server-1800")
    (container,) = pod_spec(cluster)["containers"]
    assert container["resources"] == {"limits": {"cpu": "1"}, "claims": [{"name": "gpumem"}]}
    assert pod_spec(cluster)["resourceClaims"] == [
        {"name": "gpumem", "resourceClaimTemplateName": "gpumem-immich-server-1800"}
    ]
    assert set_budget(cluster, fields()).changed
    assert "resourceClaims" not in pod_spec(cluster)
    assert limits(cluster) == {"cpu": "1", RESOURCE: "1800", "nvidia.com/gpu": "1"}


def test_a_claim_is_given_back_whole(cluster: FakeCluster) -> None:
    before = pod_spec(cluster)
    set_budget(cluster, claimed())
    unset_budget(cluster, IDENTITY)
    assert pod_spec(cluster) == before


def test_no_claim_beside_a_share_that_the_owner_asks_for() -> None:
    theirs = workload()
    theirs["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"
    other = FakeCluster()
    other.add(theirs, manager="helm")
    with pytest.raises(CheckFailed, match=r"itself asks for nvidia\.com/gpu, and the card comes from the claim alone"):
        set_budget(other, claimed())
    assert "resourceClaims" not in pod_spec(other)


@pytest.mark.parametrize("block", ["containers", "initContainers"])
def test_no_claim_beside_a_share_in_another_container(block: str) -> None:
    theirs = workload()
    sidecar = {"name": "sidecar", "image": "metrics:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    theirs["spec"]["template"]["spec"].setdefault(block, []).append(sidecar)
    other = FakeCluster()
    other.add(theirs, manager="helm")
    with pytest.raises(CheckFailed, match=r"container sidecar itself asks for nvidia\.com/gpu, and the card comes"):
        set_budget(other, claimed())
    assert "resourceClaims" not in pod_spec(other)


def test_no_claim_beside_a_whole_card_where_shares_are_renamed() -> None:
    theirs = workload()
    theirs["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"
    other = FakeCluster()
    other.add(theirs, manager="helm")
    renamed = claimed().model_copy(update={"share_resource": "nvidia.com/gpu.shared"})
    with pytest.raises(CheckFailed, match=r"container main itself asks for nvidia\.com/gpu, and"):
        set_budget(other, renamed)
