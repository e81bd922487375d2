"""A cluster without a machine, and jobs that make it grow: what the benchmark and the tests of scaling share.

The objects come from the rendering of an estate, as everywhere; only the node class is the lab's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from helpers.adapters.kubernetes_ import connect
from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.gpu_system import gpu_system_objects
from helpers.rendering.render import render
from lab.api import Api, ApiError, Object
from lab.karpenter import GPU, Machine
from lab.pod_life.behaviour import EXIT_AFTER_SECONDS
from lab.running import Lab

PROJECT = "scale"
POOL = "gpu-scale"
RESOURCE = "viktorbarzin.me/gpumem"
CARD_MIB = 14000
# Field managers of a test are not those of the product; what is applied is the same.
FIELD_MANAGER = "gpumem-lab"

_ESTATE = """
version: 1
kubernetes: {{version: "1.36"}}
resource: {resource}
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: scale
    selector: {{karpenter.sh/nodepool: {pool}}}
    min_nodes: 0
    gpus: [{{model: Tesla T4, count: {gpus}, physical_mib: 15360, reserve_mib: 1360}}]
    tolerations: [{{key: nvidia.com/gpu, operator: Exists}}]
watchdog: {{floor_mib: 1024}}
tenants: []
manager:
  node_classes: [{{name: kwok, api_version: karpenter.kwok.sh/v1alpha1, kind: KWOKNodeClass, spec: {{}}}}]
  node_pools:
    - name: {pool}
      node_class: kwok
      instance_types: [{machines}]
      gpu_limit_count: {limit}
      empty_after_seconds: {empty}
      expire_after_seconds: null
  network: {{isolated: false}}
  projects: [{{name: {project}}}]
"""


def scaling_estate(machines: Sequence[Machine], gpu_limit_count: int, empty_after_seconds: int = 5) -> Estate:
    """One pool of `machines` (of the same number of GPUs) and one project."""
    text = _ESTATE.format(
        resource=RESOURCE,
        pool=POOL,
        project=PROJECT,
        gpus=machines[0].gpu_count,
        machines=", ".join(machine.name for machine in machines),
        limit=gpu_limit_count,
        empty=empty_after_seconds,
    )
    return parse_estate(text, "the lab's scaling estate")[0]


def apply_platform(lab: Lab, estate: Estate) -> None:
    """Applies the platform wave of `estate`, in its order, after the namespace that wave 0 makes for it."""
    cluster = connect(lab.kubeconfig)
    for item in (*gpu_system_objects(estate), *render(estate).wave(2).ordered()):
        cluster.apply(item.manifest, field_manager=FIELD_MANAGER)  # type: ignore[union-attr]


def gpu_job(name: str, resources: dict[str, str], ends_after_seconds: float | None = None) -> Object:
    """A Job of one pod with these limits, as a GPU job's pod is: tolerating, marked, not to be disrupted.

    `ends_after_seconds`: on nodes with pod life its pod runs so long; absent: until it is deleted.
    """
    life = {} if ends_after_seconds is None else {EXIT_AFTER_SECONDS: str(ends_after_seconds)}
    labels = {names.project_label("gpumem.io"): PROJECT}
    pod: Object = {
        "restartPolicy": "Never",
        "nodeSelector": {names.NODE_POOL_LABEL: POOL},
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [{"name": "main", "image": "registry.example.com/train:1", "resources": {"limits": resources}}],
        "terminationGracePeriodSeconds": 0,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": PROJECT},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": labels, "annotations": names.DO_NOT_DISRUPT | life}, "spec": pod},
        },
    }


def create_jobs(api: Api, jobs: Sequence[Object]) -> None:
    """Submits them."""
    for job in jobs:
        api.post(f"/apis/batch/v1/namespaces/{PROJECT}/jobs", job)


def delete_jobs(api: Api, jobs: Sequence[Object]) -> None:
    """Cancels them, with their pods."""
    for job in jobs:
        path = f"/apis/batch/v1/namespaces/{PROJECT}/jobs/{job['metadata']['name']}"
        api.delete(path, {"propagationPolicy": "Background"})


def running_pods(api: Api) -> list[Object]:
    """The project's pods that run."""
    items: list[Object] = api.get(f"/api/v1/namespaces/{PROJECT}/pods")["items"]
    return [pod for pod in items if pod["status"].get("phase") == "Running"]


def initialized(api: Api) -> list[str]:
    """Names of the nodes that Karpenter made and calls ready for pods."""
    try:
        claims: list[Object] = api.get("/apis/karpenter.sh/v1/nodeclaims")["items"]
    except ApiError as error:
        if error.status == 404:
            return []
        raise
    return [
        claim["status"]["nodeName"]
        for claim in claims
        for condition in claim.get("status", {}).get("conditions", [])
        if condition["type"] == "Initialized" and condition["status"] == "True"
    ]
