"""Ray's documents: cards of a machine, a share of a card, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.sdk.gpu import JobRefused
from helpers.sdk.ray import RayCluster


def worker(cluster: RayCluster) -> dict[str, Any]:
    (group,) = cluster.manifest()["spec"]["workerGroupSpecs"]
    found: dict[str, Any] = group["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("machine", "cards"), [("p4d.24xlarge", "8"), ("p5.48xlarge", "8"), ("g4dn.xlarge", "1"), ("g6e.xlarge", "1")]
)
def test_a_worker_has_all_cards_of_its_machine(machine: str, cards: str) -> None:
    spec = worker(RayCluster("ray", worker_node_type=machine))
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == cards
    assert spec["nodeSelector"] == {"node.kubernetes.io/instance-type": machine}


def test_requests_are_the_limits_so_that_the_quota_counts_all() -> None:
    resources = worker(RayCluster("ray", gpus_per_worker_count=2))["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]


def test_a_share_of_a_card_is_one_gpu_to_ray() -> None:
    cluster = RayCluster("ray", gpu_memory_mib=5000, mib_resource="example.com/gpumem")
    assert worker(cluster)["containers"][0]["resources"]["limits"]["example.com/gpumem"] == "5k"
    assert cluster.spec()["workerGroupSpecs"][0]["rayStartParams"] == {"num-gpus": "1"}


def test_only_the_cluster_is_queued_and_its_jobs_are_not_once_more() -> None:
    cluster = RayCluster("ray", gpus_per_worker_count=1, queue_name="gpu", labels={"team": "a"})
    assert cluster.manifest()["metadata"]["labels"] == {"team": "a", "kueue.x-k8s.io/queue-name": "gpu"}
    assert cluster.submit_job(entrypoint="python a.py")["metadata"]["labels"] == {"team": "a"}


def test_all_that_cannot_be_is_said_at_once() -> None:
    with pytest.raises(JobRefused) as refused:
        RayCluster("Ray!", worker_node_type="x9.large", min_workers=3, max_workers=2, worker_cpu="many")
    assert [problem.path for problem in refused.value.problems] == [
        "cluster_name", "min_workers", "worker_node_type", "worker_cpu",
    ]  # fmt: skip
    with pytest.raises(JobRefused, match="set both, or neither"):
        RayCluster("ray", gpu_memory_mib=5000)
