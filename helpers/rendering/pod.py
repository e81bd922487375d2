"""A `create` tenant's PodSpec with everything put in that the estate decides."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from helpers.domain.admission.caps import apply_cap
from helpers.domain.admission.tenant_rules import tenant_cap, tenant_container
from helpers.domain.budget import budget_fields
from helpers.domain.dra.claims import claim_template_name, with_claim
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.names import framework_cap_annotation


def tenant_pod(estate: Estate, tenant: Tenant) -> dict[str, Any]:
    """The PodSpec of `tenant`: budget, shares, framework cap, runtime class, node selector, tolerations, priority.

    The estate was validated: the pod sets none of these itself, or sets it to the same.
    """
    pod: dict[str, Any] = copy.deepcopy(dict(tenant.pod or {}))
    node = estate.node(tenant.node)
    pod["containers"] = [
        _with_budget(estate, tenant, container) if container["name"] == tenant.workload.container else container
        for container in pod["containers"]
    ]
    if estate.is_claimed(tenant):
        pod = with_claim(pod, tenant.workload.container, claim_template_name(estate, tenant))
    pod["runtimeClassName"] = estate.runtime_class.name
    if tenant.priority is not None:
        pod["priorityClassName"] = tenant.priority
    pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **node.node_selector()}
    _append_tolerations(pod, node.tolerations)
    return pod


def pod_annotations(estate: Estate, tenant: Tenant) -> dict[str, str]:
    """Annotations of the pod template: what the framework was told, or why nothing."""
    cap, container = tenant_cap(estate.node(tenant.node), tenant), tenant_container(tenant)
    if cap is None or container is None:
        return {}
    return {framework_cap_annotation(estate.label_prefix): apply_cap(container, cap)[1]}


def _with_budget(estate: Estate, tenant: Tenant, container: dict[str, Any]) -> dict[str, Any]:
    """Limits alone: the API server makes the request of an extended resource equal to its limit."""
    resources = {**(container.get("resources") or {})}
    if limits := {**(resources.get("limits") or {}), **budget_fields(estate, tenant).limits()}:
        resources["limits"] = limits
    container = {**container, "resources": resources}
    cap = tenant_cap(estate.node(tenant.node), tenant)
    return container if cap is None else apply_cap(container, cap)[0]


def _append_tolerations(pod: dict[str, Any], wanted: tuple[Mapping[str, Any], ...]) -> None:
    held: list[Any] = list(pod.get("tolerations") or ())
    held.extend(dict(item) for item in wanted if dict(item) not in held)
    if held:
        pod["tolerations"] = held
