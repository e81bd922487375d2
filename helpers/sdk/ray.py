"""Ray on Kubernetes: the documents of KubeRay (ray.io/v1) for a cluster with GPUs and for jobs on it.

They are made here and applied by whoever may (kubectl, Terraform, GitOps). The cluster's pods live in the
project's namespace, so its quota holds for them; in a cluster with Kueue `queue_name` lets Kueue hold them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from helpers.domain import names
from helpers.domain.cost.price_data import TABLES
from helpers.domain.errors import Problem, QuantityError
from helpers.domain.quantity import Quantity
from helpers.sdk.gpu_wire import JobRefused

API_VERSION = "ray.io/v1"
Mode = Literal["default", "aggressive", "conservative"]
_INSTANCE_LABEL = "node.kubernetes.io/instance-type"
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_GPU = "nvidia.com/gpu"
# Ray's dashboard takes jobs, and its client port takes drivers.
_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that grows and shrinks with what its jobs ask for.

    Attributes:
        cluster_name: The object's name.
        worker_node_type: The workers' machines, such as p4d.24xlarge; absent: any with `gpus_per_worker_count`.
        head_node_type: The head's machine; absent: any. The head has no GPU.
        image: Ray's image, for head and workers; its version must be `ray_version`.
        gpus_per_worker_count: Cards of each worker; absent: all of `worker_node_type`.
        gpu_memory_mib: MiB of a shared card for each worker in place of whole cards; `mib_resource` counts them.
        min_workers, max_workers: Bounds between which the autoscaler stays.
        autoscaling_mode: How fast it grows.
        project_id: The namespace.
        queue_name: Kueue's LocalQueue, where Kueue holds the cluster until its turn.
    """

    cluster_name: str
    worker_node_type: str = ""
    head_node_type: str = ""
    image: str = "rayproject/ray:2.46.0-py311-gpu"
    ray_version: str = "2.46.0"
    gpus_per_worker_count: int | None = None
    gpu_memory_mib: int | None = None
    mib_resource: str = ""
    min_workers: int = 0
    max_workers: int = 1
    autoscaling_mode: Mode = "default"
    project_id: str = ""
    queue_name: str = ""
    worker_cpu: str = "8"
    worker_memory: str = "32Gi"
    head_cpu: str = "2"
    head_memory: str = "8Gi"
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise JobRefused(None, problems)

    def manifest(self) -> dict[str, Any]:
        """The RayCluster."""
        return {"apiVersion": API_VERSION, "kind": "RayCluster", "metadata": self._metadata(), "spec": self.spec()}

    def spec(self) -> dict[str, Any]:
        """A RayCluster's spec; a RayJob that makes its own cluster carries the same."""
        return {
            "rayVersion": self.ray_version,
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {"upscalingMode": self.autoscaling_mode.capitalize(), "idleTimeoutSeconds": 600},
            "headGroupSpec": {
                # No task runs on the head: it has no GPU, and its loss is the cluster's.
                "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - within its pod
                "template": self._pod("ray-head", self.head_cpu, self.head_memory, {}, self.head_node_type, _PORTS),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "gpu",
                    "replicas": self.min_workers,
                    "minReplicas": self.min_workers,
                    "maxReplicas": self.max_workers,
                    # Ray reads whole cards from the limits; a share of a card it has to be told.
                    "rayStartParams": {"num-gpus": "1"} if self.gpu_memory_mib else {},
                    "template": self._pod(
                        "ray-worker", self.worker_cpu, self.worker_memory, self._gpu_limits(), self.worker_node_type, {}
                    ),
                }
            ],
        }

    def submit_job(
        self, *, entrypoint: str, runtime_env: Mapping[str, Any] | None = None, job_name: str = ""
    ) -> dict[str, Any]:
        """The RayJob that runs `entrypoint` on this cluster. (Its field for YAML gets JSON, which is YAML.)"""
        return {
            "apiVersion": API_VERSION,
            "kind": "RayJob",
            "metadata": {**self._metadata(queued=False), "name": job_name or f"{self.cluster_name}-job"},
            "spec": {
                "entrypoint": entrypoint,
                "clusterSelector": {"ray.io/cluster": self.cluster_name},
                **({"runtimeEnvYAML": json.dumps(runtime_env)} if runtime_env else {}),
            },
        }

    def _metadata(self, *, queued: bool = True) -> dict[str, Any]:
        labels = {**self.labels, **({_QUEUE_LABEL: self.queue_name} if self.queue_name and queued else {})}
        return {
            "name": self.cluster_name,
            **({"namespace": self.project_id} if self.project_id else {}),
            **({"labels": labels} if labels else {}),
        }

    def _gpu_limits(self) -> dict[str, str]:
        if self.gpu_memory_mib is not None:
            return {_GPU: "1", self.mib_resource: Quantity.parse(str(self.gpu_memory_mib)).canonical()}
        return {_GPU: str(self.gpus_per_worker_count or _cards_count(self.worker_node_type))}

    def _pod(
        self, name: str, cpu: str, memory: str, gpus: Mapping[str, str], node_type: str, ports: Mapping[str, int]
    ) -> dict[str, Any]:
        amounts = {"cpu": cpu, "memory": memory, **gpus}
        container: dict[str, Any] = {
            "name": name,
            "image": self.image,
            "resources": {"limits": amounts, "requests": dict(amounts)},
        }
        if ports:
            container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
        tolerations = [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpus else []
        return {
            "spec": {
                "containers": [container],
                **({"nodeSelector": {_INSTANCE_LABEL: node_type}} if node_type else {}),
                **({"tolerations": tolerations} if tolerations else {}),
            }
        }

    def _problems(self) -> list[Problem]:
        found = []
        if not names.is_dns_label(self.cluster_name):
            rule = "a DNS label: small letters, digits and dashes, at most 63"
            found.append(Problem("cluster_name", self.cluster_name, rule, "rename the cluster"))
        if not 0 <= self.min_workers <= self.max_workers or self.max_workers < 1:
            rule = f"0 to max_workers ({self.max_workers}), which is at least 1"
            found.append(Problem("min_workers", str(self.min_workers), rule, "lower min_workers or raise max_workers"))
        if self.gpu_memory_mib is not None and not (self.gpu_memory_mib > 0 and self.mib_resource):
            rule = "MiB above 0, with mib_resource: the estate's key `resource`, which counts them"
            found.append(Problem("gpu_memory_mib", str(self.gpu_memory_mib), rule, "set both, or neither"))
        cards_known = self.gpus_per_worker_count or self.gpu_memory_mib or _cards_count(self.worker_node_type)
        if not cards_known:
            rule = "a machine whose number of cards is known, or gpus_per_worker_count"
            found.append(Problem("worker_node_type", self.worker_node_type, rule, "set gpus_per_worker_count"))
        for place in ("worker_cpu", "worker_memory", "head_cpu", "head_memory"):
            text = getattr(self, place)
            try:
                Quantity.parse(text)
            except QuantityError as error:
                found.append(Problem(place, text, f"a Kubernetes quantity: {error}", 'write it like "8" or "32Gi"'))
        return found


def _cards_count(node_type: str) -> int:
    """How many cards a machine of that type has; 0: not known. From the price tables, which name machines."""
    rows = [row for table in TABLES.values() for row in table.rows if row.instance_type == node_type]
    return math.floor(rows[0].gpus_count) if rows else 0
