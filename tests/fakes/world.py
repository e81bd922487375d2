"""Objects for fake clusters: the first reference's T4 node and workloads, as small as they can be."""

from __future__ import annotations

from typing import Any

from helpers.domain.capacity import CapacitySettings, NodeCapacity
from helpers.ports.cluster import ObjectRef

RESOURCE = "viktorbarzin.me/gpumem"
GPU_LABELS = {"nvidia.com/gpu.present": "true"}


def settings(
    advertised_mib: int = 14000, *, drain: bool = False, min_nodes: int = 1, **more: NodeCapacity
) -> CapacitySettings:
    """One kind, `t4-node`, found by the operator's label; further kinds by keyword."""
    t4 = NodeCapacity(
        name="t4-node",
        node_name=None,
        labels=GPU_LABELS,
        min_nodes=min_nodes,
        advertised_mib=advertised_mib,
        share_resource="nvidia.com/gpu",
        shares_count=8,
    )
    return CapacitySettings(
        resource=RESOURCE,
        kubernetes_version="1.36",
        label_prefix="gpumem.io",
        drain=drain,
        nodes=(t4, *more.values()),
    )


def node_ref(name: str = "gpu-0") -> ObjectRef:
    return ObjectRef("v1", "Node", name)


def node(
    name: str = "gpu-0", labels: dict[str, str] | None = None, resources: dict[str, str] | None = None
) -> dict[str, Any]:
    """A node as its kubelet registers it; `resources` on top of cpu and pods."""
    amounts = {"cpu": "4", "pods": "110", **(resources or {})}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": GPU_LABELS if labels is None else labels},
        "status": {"capacity": amounts, "allocatable": dict(amounts), "conditions": ready},
    }


def pod(
    name: str, budget: str, *, node: str = "gpu-0", namespace: str = "immich", phase: str = "Running"
) -> dict[str, Any]:
    """A pod whose one container has a budget, spelled as given."""
    amounts = {RESOURCE: budget}
    container = {"name": "main", "image": "x", "resources": {"limits": amounts, "requests": dict(amounts)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [container]},
        "status": {"phase": phase},
    }


def workload(kind: str = "Deployment", *, replicas: int = 1, containers: tuple[str, ...] = ("main",)) -> dict[str, Any]:
    """`immich/immich-server`, owned by somebody else."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "immich-server", "namespace": "immich"},
        "spec": {
            **({} if kind == "DaemonSet" else {"replicas": replicas}),
            "template": {
                "spec": {
                    "containers": [
                        {"name": name, "image": "x", "resources": {"limits": {"cpu": "1"}}} for name in containers
                    ]
                }
            },
        },
    }


def workload_ref(kind: str = "Deployment") -> ObjectRef:
    return ObjectRef("apps/v1", kind, "immich-server", "immich")
