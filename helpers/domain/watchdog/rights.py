"""What the watchdog may do in the cluster: exactly this, and each entry with its use.

Manifests render their Role and ClusterRole from here, and a test takes each verb away in turn and
sees what fails without it.
"""

from __future__ import annotations

from helpers.domain.rights import Right

WATCHDOG_COMPONENT = "gpumem-watchdog"
WATCHDOG_SERVICE_ACCOUNT = "gpumem-watchdog"
WATCHDOG_LEASE = "gpumem-watchdog"
EXPORTER_SERVICE = "gpumem-exporter"


def watchdog_rights(
    *, allow_delete: bool = False, allow_exec: bool = False, discover: bool = True, claims: bool = False
) -> tuple[Right, ...]:
    """All rights.

    Args:
        allow_delete: The estate allows deletion where an eviction is refused for ever.
        allow_exec: The estate allows release hooks that are commands.
        claims: Budgets are claims on some nodes.
        discover: Exporters are found by EndpointSlice; with explicit targets that right is not needed.
    """
    coordination = "coordination.k8s.io"
    names = (WATCHDOG_LEASE,)
    rights = (
        Right("", "pods", ("list", "watch"), "budgets, owners, what terminates; asked afresh before each act"),
        Right("", "pods/eviction", ("create",), "the act itself"),
        Right("", "pods", ("delete",), "where a PodDisruptionBudget never yields and the estate allows it"),
        # The websocket is opened by a GET; from Kubernetes 1.35 on the server asks for create besides.
        Right("", "pods/exec", ("get", "create"), "release hooks that are commands", "tenants"),
        Right("resource.k8s.io", "resourceclaims", ("list", "watch"), "budgets that are claims"),
        Right("resource.k8s.io", "resourceslices", ("list", "watch"), "which card a claim is on, by its uuid"),
        Right("", "events", ("create",), "what was done and what was refused, on the pod or the node"),
        Right("discovery.k8s.io", "endpointslices", ("list", "watch"), "the exporters' addresses", "namespace"),
        Right(coordination, "leases", ("get", "patch"), "who leads, and the acts so far", "namespace", names),
        # RBAC cannot restrict a create to a name.
        Right(coordination, "leases", ("create",), "the first leader makes the Lease", "namespace"),
    )
    kept = {"delete": allow_delete, "endpointslices": discover, "pods/exec": allow_exec}
    kept |= dict.fromkeys(("resourceclaims", "resourceslices"), claims)
    return tuple(right for right in rights if kept.get(right.resource, True) and kept.get(right.verbs[0], True))
