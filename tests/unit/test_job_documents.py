"""The objects that a GPU job becomes on each engine."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from helpers.adapters.job_engines.documents import PLACE_SECONDS, JobDocuments, checkpoint_text
from helpers.adapters.job_engines.engine import JobObjects
from helpers.adapters.job_engines.kueue import KueueEngine
from helpers.adapters.job_engines.native import NativeEngine
from helpers.adapters.job_engines.volcano import VolcanoEngine
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability
from helpers.domain.jobs.settings import ManagerSettings, manager_settings
from helpers.domain.jobs.spec import Checkpoint, read_spec
from lab.jobs import jobs_estate
from tests.fakes.cluster import FakeCluster
from tests.fakes.jobs import EXAMPLE, job, spec
from tests.fakes.outside import FakeClock, FakeEvents, FakeLog


def settings(**changes: Any) -> ManagerSettings:
    found = manager_settings(jobs_estate())
    assert found is not None
    return found.model_copy(update=changes)


def made(one: Job, **changes: Any) -> dict[str, Any]:
    return JobDocuments(settings(**changes)).job(one)


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["template"]["spec"]
    return found


def terms(document: dict[str, Any]) -> list[dict[str, tuple[str, list[str]]]]:
    required = pod_of(document)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [
        {one["key"]: (one["operator"], one["values"]) for one in term["matchExpressions"]}
        for term in required["nodeSelectorTerms"]
    ]


def test_the_example_of_the_api() -> None:
    """A100s as they are asked for there; the estate's own are 80 GB, on demand only."""
    document = made(job(spec=read_spec(EXAMPLE)))
    spec_of_job = document["spec"]
    assert (spec_of_job["suspend"], spec_of_job["backoffLimit"], spec_of_job["completionMode"]) == (
        True,
        0,
        "NonIndexed",
    )
    assert spec_of_job["activeDeadlineSeconds"] == 24 * 3600 + PLACE_SECONDS + 300
    container = pod_of(document)["containers"][0]
    assert container["command"] == ["python", "train.py"]
    assert container["resources"] == {
        "requests": {"cpu": "16", "memory": "128Gi", "ephemeral-storage": "500Gi"},
        "limits": {"memory": "128Gi", "ephemeral-storage": "500Gi", "nvidia.com/gpu": "4"},
    }
    env = {one["name"]: one["value"] for one in container["env"]}
    assert env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert (env["GPUMEM_JOB_ID"], env["GPUMEM_JOB_ATTEMPT"], env["GPUMEM_JOB_WORKERS"]) == ("gpu-job-1", "1", "1")
    assert pod_of(document)["priorityClassName"] == "gpu-high"
    assert pod_of(document)["runtimeClassName"] == "nvidia"
    assert document["spec"]["template"]["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}


def test_workers_are_indexed_and_all_fail_with_one() -> None:
    document = made(job(spec=spec(workers=8)))
    assert [document["spec"][key] for key in ("completions", "parallelism", "completionMode")] == [8, 8, "Indexed"]
    (rule,) = document["spec"]["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    ("capacity", "wanted"),
    [
        ("spot", [{"gpu-pool": ("In", ["h100-spot"]), "karpenter.sh/capacity-type": ("In", ["spot"])}]),
        (
            "on-demand",
            [{"gpu-pool": ("In", ["h100"]), "karpenter.sh/capacity-type": ("NotIn", ["spot"])}],
        ),
    ],
)
def test_spot_is_spot_and_on_demand_is_not(capacity: Any, wanted: list[Any]) -> None:
    one = job(spec=spec(gpu_requirements={"gpu_type": "H100"}, preemptible=True), capacity=capacity)
    assert [
        {**term, "karpenter.sh/capacity-type": term["karpenter.sh/capacity-type"]} for term in terms(made(one))
    ] == wanted
    tolerated = [one["key"] for one in pod_of(made(one))["tolerations"]]
    assert ("karpenter.sh/capacity-type" in tolerated) is (capacity == "spot")


def test_mib_are_a_budget_beside_a_share_of_the_card() -> None:
    document = made(job(spec=spec(gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 4000})))
    assert pod_of(document)["containers"][0]["resources"]["limits"] == {
        "nvidia.com/gpu.shared": "1",
        "example.com/gpumem": "4k",
    }


def test_a_mig_profile_is_the_device_plugins_resource() -> None:
    asked = {"gpu_type": "A100", "gpu_memory_gb": 80, "mig_profile": "1g.10gb", "gpu_count": 2}
    document = made(job(spec=spec(gpu_requirements=asked)), places=())
    assert pod_of(document)["containers"][0]["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "2"}


def test_another_attempt_has_what_is_left_of_its_time() -> None:
    one = job(spec=spec(max_duration_hours=1), attempt_count=2, held_seconds=600.0, cost_usd=Decimal(1))
    document = made(one)
    assert document["metadata"]["annotations"]["gpumem.io/attempt"] == "3"
    assert document["spec"]["activeDeadlineSeconds"] == 3000 + PLACE_SECONDS + 300
    assert made(replace(one, held_seconds=9999.0))["spec"]["activeDeadlineSeconds"] == PLACE_SECONDS + 300


def test_what_a_user_sets_wins_over_what_the_job_is_told() -> None:
    container = {"image": "registry.example.com/train:1", "env": {"GPUMEM_JOB_WORKERS": "mine"}}
    env = pod_of(made(job(spec=spec(container=container))))["containers"][0]["env"]
    assert [one["value"] for one in env if one["name"] == "GPUMEM_JOB_WORKERS"] == ["mine"]


def test_a_checkpoint_is_said_to_the_pod_and_to_the_program() -> None:
    document = made(job(spec=spec(checkpoint={"http_path": "/save", "http_port": 9000})))
    container = pod_of(document)["containers"][0]
    assert container["ports"] == [{"name": "checkpoint", "containerPort": 9000}]
    assert (
        document["spec"]["template"]["metadata"]["annotations"]["gpumem.io/checkpoint"] == "POST :9000/save every 900 s"
    )
    assert {"name": "GPUMEM_JOB_CHECKPOINT", "value": "POST :9000/save every 900 s"} in container["env"]
    assert checkpoint_text(Checkpoint(signal="SIGUSR1", interval_seconds=60)) == "SIGUSR1 every 60 s"


def objects(**changes: Any) -> tuple[ManagerSettings, JobObjects]:
    found = settings(**changes)
    return found, JobObjects(found, FakeCluster(), FakeEvents(), FakeClock(), FakeLog())  # type: ignore[arg-type]


def test_kueue_gets_a_suspended_job_with_its_queue_and_priority() -> None:
    engine = KueueEngine(*objects())
    document = engine.document(job(spec=spec(priority="high")))
    assert document["spec"]["suspend"] is True
    assert document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpumem"
    assert document["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "gpu-high"


def test_volcano_gets_pods_of_its_own_and_their_group() -> None:
    engine = VolcanoEngine(*objects())
    one = job(spec=spec(workers=4, gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 4000}))
    document, group = engine.document(one), engine.pod_group(one, "the-jobs-uid")
    assert (document["spec"]["suspend"], pod_of(document)["schedulerName"]) == (False, "volcano")
    assert "activeDeadlineSeconds" not in document["spec"]
    assert pod_of(document)["activeDeadlineSeconds"] == made(one)["spec"]["activeDeadlineSeconds"]
    annotations = document["spec"]["template"]["metadata"]["annotations"]
    assert annotations["scheduling.k8s.io/group-name"] == group["metadata"]["name"] == "gpu-job-1-1"
    assert group["spec"] == {
        "minMember": 4,
        "queue": "gpumem-vision",
        "priorityClassName": "gpu-medium",
        "minResources": {"nvidia.com/gpu.shared": "4", "example.com/gpumem": "16k"},
    }


C = Capability
COMMON = {C.FIFO, C.PRIORITY, C.FAIR_SHARE, C.GANG}


@pytest.mark.parametrize(
    ("engine", "changes", "can"),
    [
        (NativeEngine, {}, COMMON | {C.PREEMPTION}),
        (KueueEngine, {}, COMMON | {C.BORROWING}),
        (KueueEngine, {"may_preempt": True}, COMMON | {C.BORROWING, C.PREEMPTION}),
        (KueueEngine, {"provisioning_class": "x"}, COMMON | {C.BORROWING, C.PROVISIONING_REQUEST}),
        (VolcanoEngine, {}, COMMON | {C.BORROWING}),
    ],
)
def test_an_engine_says_what_it_can_do(engine: Any, changes: dict[str, Any], can: set[Capability]) -> None:
    assert engine(*objects(**changes)).capabilities() == can
