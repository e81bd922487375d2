"""A queue for each project, in the engine that the estate names, and in that one only."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from helpers.domain.estate.gpu_ceilings import gpu_ceiling
from helpers.domain.estate.manager import Manager, Project
from helpers.domain.estate.model import Estate
from helpers.domain.estate.queues import Queues
from tests.unit.test_rendering_manager_platform import ESTATE, platform, with_manager

Engine = Literal["native", "kueue", "volcano"]
QUEUE_KINDS = {
    "native": set(),
    "kueue": {"ResourceFlavor", "ClusterQueue", "LocalQueue", "WorkloadPriorityClass"},
    "volcano": {"Queue"},
}


@pytest.mark.parametrize("engine", QUEUE_KINDS)
def test_queues_are_rendered_where_the_engine_says_so(engine: Engine) -> None:
    kinds = {item["kind"] for item in platform(with_manager(engine=engine)).values()}
    foreign = set().union(*QUEUE_KINDS.values())
    assert kinds & foreign == QUEUE_KINDS[engine]


def cluster_queue(estate: Estate, project: str = "ml-research") -> Any:
    return platform(estate)[f"kueue-cluster-queue-{project}"]["spec"]


def resources(estate: Estate, project: str = "ml-research") -> dict[str, Any]:
    (group,) = cluster_queue(estate, project)["resourceGroups"]
    (flavor,) = group["flavors"]
    assert [one["name"] for one in flavor["resources"]] == group["coveredResources"]
    return {one["name"]: one for one in flavor["resources"]}


def test_a_project_borrows_gpus_by_its_weight_and_nothing_else() -> None:
    estate = with_manager(engine="kueue")
    spec = cluster_queue(estate)
    assert spec["cohortName"] == "gpumem"
    assert spec["fairSharing"] == {"weight": "2"}
    found = resources(estate)
    assert found["nvidia.com/gpu"] == {"name": "nvidia.com/gpu", "nominalQuota": "16"}
    assert {name for name, one in found.items() if one.get("borrowingLimit") == "0"} == set(found) - {"nvidia.com/gpu"}
    assert (found["cpu"]["nominalQuota"], found["memory"]["nominalQuota"]) == ("64", "512Gi")


def test_a_queue_covers_everything_that_a_job_may_ask_for() -> None:
    """Kueue admits no workload that asks for a resource which its queue does not name."""
    assert set(resources(with_manager(engine="kueue"))) == {
        "cpu",
        "memory",
        "ephemeral-storage",
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-1g.10gb",
        "viktorbarzin.me/gpumem",
    }


def test_nobody_is_evicted_unless_a_priority_class_may() -> None:
    estate = with_manager(engine="kueue")
    assert cluster_queue(estate)["preemption"] == {"withinClusterQueue": "Never", "reclaimWithinCohort": "Never"}
    classes = tuple(one.model_copy(update={"preempt": one.name == "gpu-high"}) for one in estate.priority_classes)
    evicting = estate.model_copy(update={"priority_classes": classes})
    assert cluster_queue(evicting)["preemption"] == {
        "withinClusterQueue": "LowerPriority",
        "reclaimWithinCohort": "Any",
    }
    volcano = with_manager(engine="volcano").model_copy(update={"priority_classes": classes})
    assert platform(volcano)["volcano-queue-vision"]["spec"]["reclaimable"] is True


def test_a_jobs_priority_is_worth_what_its_pods_is() -> None:
    objects = platform(with_manager(engine="kueue"))
    values = {
        item["metadata"]["name"]: item["value"] for item in objects.values() if item["kind"] == "WorkloadPriorityClass"
    }
    assert values == {item.name: item.value for item in ESTATE.priority_classes}


def test_admission_waits_for_machines_only_where_an_autoscaler_answers() -> None:
    queues = Queues(provisioning_class="check-capacity.autoscaling.x-k8s.io")
    estate = with_manager(engine="kueue", queues=queues, node_pools=())
    objects = platform(estate)
    assert cluster_queue(estate)["admissionChecksStrategy"] == {"admissionChecks": [{"name": "gpumem-provisioning"}]}
    config = objects["kueue-provisioning-config"]["spec"]
    assert config["provisioningClassName"] == "check-capacity.autoscaling.x-k8s.io"
    assert objects["kueue-admission-check"]["spec"]["parameters"]["name"] == "gpumem-provisioning"
    assert "admissionChecksStrategy" not in cluster_queue(with_manager(engine="kueue"))


def manager(engine: Engine, borrowing: int | None, *quotas: int | None) -> Manager:
    projects = tuple(Project(name=f"p{index}", gpu_quota_count=quota) for index, quota in enumerate(quotas))
    return Manager(engine=engine, projects=projects, queues=Queues(borrowing_gpu_count=borrowing))


@pytest.mark.parametrize(
    ("engine", "borrowing", "quotas", "ceiling"),
    [
        ("native", None, (16, 8), 16),
        ("native", 4, (None, 8), None),
        ("kueue", None, (16, 8, 8), 32),
        ("kueue", 4, (16, 8, 8), 20),
        ("kueue", 40, (16, 8, 8), 32),
        ("kueue", 0, (16, 8), 16),
        ("kueue", None, (16, None), None),
        ("kueue", 4, (16, None), 20),
        ("volcano", None, (16, 8), 24),
        ("volcano", None, (None, 8), None),
        ("kueue", None, (16,), 16),
    ],
)
def test_the_namespace_may_hold_what_its_queue_may_lend_it(
    engine: Engine, borrowing: int | None, quotas: tuple[int | None, ...], ceiling: int | None
) -> None:
    """A ResourceQuota at the project's own number would refuse the pods of a job that was admitted by borrowing."""
    block = manager(engine, borrowing, *quotas)
    assert gpu_ceiling(block, block.projects[0]) == ceiling


def test_the_quota_of_the_namespace_is_that_ceiling() -> None:
    for engine, gpus in (("native", "16"), ("kueue", "32"), ("volcano", "32")):
        hard = platform(with_manager(engine=engine))["project-quota-ml-research"]["spec"]["hard"]
        assert hard["requests.nvidia.com/gpu"] == gpus
        assert not any(key.startswith("limits.") for key in hard)
