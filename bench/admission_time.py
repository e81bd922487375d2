"""What admission adds to the creation of a pod, by the API server's own metrics: without it, by policy.

Used by `bench.injector`, which prints it beside the webhook's own latency.
"""

from __future__ import annotations

import re
from typing import Any

from helpers.domain.estate.model import Estate
from helpers.rendering.admission import admission_objects
from lab.api import APPLY_PATCH, Api
from lab.injector import make_namespace
from lab.waiting import wait_for

PODS_COUNT = 1000
NAMESPACE = "bench"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All"
GROUP = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
_DURATION = re.compile(
    r'^apiserver_admission_controller_admission_duration_seconds_sum\{name="\w+AdmissionPolicy",'
    r'operation="CREATE",rejected="false",type="\w+"\} (\S+)$',
    re.MULTILINE,
)


def policy_figures(api: Api, estate: Estate) -> dict[str, Any]:
    """Mean ms that all of the estate's policies take for a pod that asks for a GPU, and for one that does not."""
    objects = list(admission_objects(estate))
    make_namespace(api, NAMESPACE)
    api.post("/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "nvidia"}, "handler": "nvidia"})
    without_ms = _mean_ms(api, _pod(gpu=True))
    for item in objects:
        path = f"{GROUP}/{PLURALS[item.kind]}/{item.manifest['metadata']['name']}"
        api.patch(path, dict(item.manifest), APPLY_PATCH, fieldManager="bench", force="true")
    wait_for(lambda: "/dev/nvidia0" in str(api.post(PODS, _pod(gpu=True))))
    return {
        "pods": PODS_COUNT,
        "policies": sum(item.kind.endswith("Policy") for item in objects),
        "without_policies_ms": without_ms,
        "gpu_pod_ms": _mean_ms(api, _pod(gpu=True)),
        "other_pod_ms": _mean_ms(api, _pod(gpu=False)),
    }


def _mean_ms(api: Api, pod: dict[str, Any]) -> float:
    before = _seconds(api)
    for _ in range(PODS_COUNT):
        api.post(PODS, pod)
    return round(1000 * (_seconds(api) - before) / PODS_COUNT, 3)


def _seconds(api: Api) -> float:
    """Seconds that policies of both kinds have taken so far, for all pods and everything else that was created."""
    return sum(float(value) for value in _DURATION.findall(api.text("/metrics")))


def _pod(*, gpu: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generateName": "p-"}
    container: dict[str, Any] = {"name": "main", "image": "registry.example.com/main:1"}
    if gpu:
        metadata["annotations"] = {"gpu-directories": "nvidia:0"}
        container["resources"] = {"limits": {"nvidia.com/gpu": "1", "viktorbarzin.me/gpumem": "3k"}}
    return {"metadata": metadata, "spec": {"containers": [container]}}
