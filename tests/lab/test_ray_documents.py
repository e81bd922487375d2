"""Ray's documents on a real API server with KubeRay's published CRDs: a field that they do not know is an error.

Whether Ray then runs is KubeRay's to show; it is not installed here.
"""

from __future__ import annotations

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.errors import ClusterError
from helpers.sdk.gpu import GPUJobClient
from helpers.sdk.ray import RayCluster
from lab.cluster import Lab
from tests.fixtures.platform_lab import ApplyCrds

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def cluster(platform_lab: Lab, serve_crds: ApplyCrds) -> KubernetesCluster:
    serve_crds("kuberay")
    found = connect(platform_lab.kubeconfig)
    found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ray"}}, field_manager="owner")
    return found


def test_kuberays_own_schema_takes_the_references_cluster_and_its_job(cluster: KubernetesCluster) -> None:
    ray = GPUJobClient("http://manager").create_ray_cluster(
        cluster_name="ray-training",
        head_node_type="m5.2xlarge",
        worker_node_type="p4d.24xlarge",
        min_workers=0,
        max_workers=10,
        autoscaling_mode="default",
        project_id="ray",
        queue_name="ray",
    )
    kept = cluster.apply(ray.manifest(), field_manager="test")
    assert kept["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 10
    job = ray.submit_job(entrypoint="python train_distributed.py", runtime_env={"pip": ["torch", "transformers"]})
    cluster.apply(job, field_manager="test")

    wrong = {**job, "spec": {**job["spec"], "entryPoint": "python"}}
    with pytest.raises(ClusterError, match="entryPoint"):
        cluster.apply(wrong, field_manager="test")


def test_it_takes_workers_on_shared_cards_and_other_speeds(cluster: KubernetesCluster) -> None:
    for mode in ("aggressive", "conservative"):
        ray = RayCluster(
            f"ray-{mode}",
            gpu_memory_mib=6000,
            mib_resource="example.com/gpumem",
            autoscaling_mode=mode,
            project_id="ray",
        )
        (group,) = cluster.apply(ray.manifest(), field_manager="test")["spec"]["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["example.com/gpumem"] == "6k"
