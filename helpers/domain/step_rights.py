"""What a step may do where a Job in the cluster runs it: each command has an account of its own.

Terraform runs steps with the rights of whoever applies; a Job has none but these. `capacity assert`
runs as the capacity helper, whose rights stand in manifests/capacity/rbac.yaml.j2.
"""

from __future__ import annotations

from helpers.domain.budget import WorkloadIdentity
from helpers.domain.estate.model import Estate
from helpers.domain.rights import Right

_WHY = {
    "budget": "put the budget's fields into a workload that somebody else owns",
    "replicas": "scale a rendered workload to the estate's number",
}


def gate_rights(estate: Estate) -> tuple[Right, ...]:
    """Of `verify`: it reads nodes, where budgets are claims also what is offered and held, and writes nothing."""
    nodes = Right("", "nodes", ("list",), "see what every node shows")
    if not estate.claim_nodes():
        return (nodes,)
    group = "resource.k8s.io"
    return (
        nodes,
        Right("", "pods", ("list",), "see what still holds budget by number on nodes of claims"),
        Right(group, "resourceslices", ("list",), "see what cards every node offers"),
        Right(group, "resourceclaims", ("list",), "see what still holds budget by claim on nodes of the number"),
    )


def workload_rights(command: str, workloads: tuple[WorkloadIdentity, ...]) -> tuple[Right, ...]:
    """Of `budget set` or `replicas set` on these workloads of one namespace, by name."""
    found: dict[str, list[str]] = {}
    for workload in workloads:
        found.setdefault(f"{workload.kind.lower()}s", []).append(workload.workload)
    return tuple(
        Right("apps", resource, ("get", "patch"), _WHY[command], "tenants", tuple(sorted(found[resource])))
        for resource in sorted(found)
    )
