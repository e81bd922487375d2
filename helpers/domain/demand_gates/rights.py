"""What demand gates may do in the tenants' namespaces: scale the workloads that they are for, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.rights import Right

_RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets"}


def gate_rights(rules: Sequence[GateRule], namespace: str) -> tuple[Right, ...]:
    """All rights in `namespace`; none where no gate's workload is there."""
    workloads = [rule.workload for rule in rules if rule.workload.namespace == namespace]
    if not workloads:
        return ()
    rights = []
    for kind, resource in _RESOURCES.items():
        named = tuple(sorted(one.workload for one in workloads if one.kind == kind))
        if named:
            rights += [
                Right("apps", resource, ("get",), "replicas, and whether a person released it", "tenants", named),
                Right("apps", f"{resource}/scale", ("patch",), "the act itself", "tenants", named),
            ]
    return (
        *rights,
        # RBAC cannot restrict a list to a name, nor a create.
        Right("", "pods", ("list",), "whether the last pod has gone, and its memory with it", "tenants"),
        Right("", "events", ("create",), "what was done and why, on the workload", "tenants"),
    )
