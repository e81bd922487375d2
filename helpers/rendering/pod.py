"""A `create` tenant's PodSpec with everything put in that the estate decides."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from helpers.domain.budget import budget_fields
from helpers.domain.errors import EstateInvalid, Problem
from helpers.domain.estate import Estate
from helpers.domain.estate_tenants import Tenant


def tenant_pod(estate: Estate, tenant: Tenant, path: str) -> dict[str, Any]:
    """The PodSpec of `tenant`: budget, shares, runtime class, node selector, tolerations, priority.

    `path` is the tenant's place in the estate (`tenants[2]`), for the message.

    Raises:
        EstateInvalid: the pod asks for other nodes than the estate.
    """
    pod: dict[str, Any] = copy.deepcopy(dict(tenant.pod or {}))
    node = estate.node(tenant.node)
    problems: list[Problem] = []
    _put_limits(estate, tenant, pod)
    # validate refuses a pod that sets these two itself: a second copy could differ.
    pod["runtimeClassName"] = estate.runtime_class.name
    if tenant.priority is not None:
        pod["priorityClassName"] = tenant.priority
    selector: dict[str, Any] = pod.get("nodeSelector") or {}
    for key, value in node.node_selector().items():
        if selector.setdefault(key, value) != value:
            rule = f"the pod runs on the nodes of {node.name}, which carry {key}: {value}"
            repair = "remove it from the pod, or name another entry under node"
            problems.append(Problem(f'{path}.pod.nodeSelector["{key}"]', str(selector[key]), rule, repair))
    pod["nodeSelector"] = selector
    _append_tolerations(pod, node.tolerations)
    if problems:
        raise EstateInvalid(problems)
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
