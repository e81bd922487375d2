"""A `create` tenant's PodSpec with everything put in that the estate decides."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from helpers.domain.budget import budget_fields
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant


def tenant_pod(estate: Estate, tenant: Tenant) -> dict[str, Any]:
    """The PodSpec of `tenant`: budget, shares, runtime class, node selector, tolerations, priority.

    The estate was validated: the pod sets none of these itself, or sets it to the same.
    """
    pod: dict[str, Any] = copy.deepcopy(dict(tenant.pod or {}))
    node = estate.node(tenant.node)
    _put_limits(estate, tenant, pod)
    pod["runtimeClassName"] = estate.runtime_class.name
    if tenant.priority is not None:
        pod["priorityClassName"] = tenant.priority
    pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **node.node_selector()}
    _append_tolerations(pod, node.tolerations)
    return pod


def _put_limits(estate: Estate, tenant: Tenant, pod: dict[str, Any]) -> None:
    """Limits alone: the API server makes the request of an extended resource equal to its limit."""
    for container in pod["containers"]:
        if container["name"] == tenant.workload.container:
            resources = {**(container.get("resources") or {})}
            resources["limits"] = {**(resources.get("limits") or {}), **budget_fields(estate, tenant).limits()}
            container["resources"] = resources


def _append_tolerations(pod: dict[str, Any], wanted: tuple[Mapping[str, Any], ...]) -> None:
    held: list[Any] = list(pod.get("tolerations") or ())
    held.extend(dict(item) for item in wanted if dict(item) not in held)
    if held:
        pod["tolerations"] = held
