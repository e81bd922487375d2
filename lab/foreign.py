"""Workloads that somebody else owns: what another team's chart would have installed.

The workload of a `patch` or `admission` tenant exists before this project touches it. In the lab nobody
else is there, so this plays the owner: it creates each such workload the way a chart does, without any budget.
"""

from __future__ import annotations

from typing import Any

from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from lab.api import Api, ApiError

_CONFLICT = 409
_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


def create_foreign_workloads(api: Api, estate: Estate) -> list[str]:
    """Create namespace and workload of every tenant with another owner; returns `namespace/name` of the new ones."""
    created = []
    for tenant in estate.tenants:
        if tenant.apply == "create":
            continue
        _create(
            api, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant.namespace}}
        )
        path = f"/apis/apps/v1/namespaces/{tenant.namespace}/{_PLURALS[tenant.workload.kind]}"
        if _create(api, path, foreign_workload(estate, tenant)):
            created.append(f"{tenant.namespace}/{tenant.workload.name}")
    return created


def foreign_workload(estate: Estate, tenant: Tenant) -> dict[str, Any]:
    """The owner's manifest of `tenant`'s workload: as declared in the estate, and no budget in it."""
    name = tenant.workload.name
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm", **(tenant.pod_labels or {})}
    node = estate.node(tenant.node)
    pod = {
        "nodeSelector": node.node_selector(),
        "tolerations": [dict(toleration) for toleration in node.tolerations],
        "containers": [{"name": tenant.workload.container, "image": f"registry.example.com/{name}:1.0.0"}],
    }
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app.kubernetes.io/name": labels["app.kubernetes.io/name"]}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if tenant.workload.kind != "DaemonSet":
        spec["replicas"] = tenant.replicas_count
    if tenant.workload.kind == "StatefulSet":
        spec["serviceName"] = name
    if tenant.strategy is not None:
        spec["strategy"] = tenant.strategy.model_dump(exclude_none=True)
    return {
        "apiVersion": "apps/v1",
        "kind": tenant.workload.kind,
        "metadata": {"name": name, "namespace": tenant.namespace, "labels": labels},
        "spec": spec,
    }


def _create(api: Api, path: str, body: dict[str, Any]) -> bool:
    try:
        api.post(path, body)
    except ApiError as error:
        if error.status == _CONFLICT:
            return False
        raise
    return True
