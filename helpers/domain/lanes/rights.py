"""What the coordinator may do in the cluster: lead; with leases, ask who callers are. Queues are Redis's."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.rights import Right

_GROUP = "coordination.k8s.io"


def coordinator_rights(*, leases: bool = False) -> tuple[Right, ...]:
    """All rights. `leases`: those for serving leases, too."""
    return (*_leading(), *(_serving_leases() if leases else ()))


def _serving_leases() -> tuple[Right, ...]:
    return (
        Right("authentication.k8s.io", "tokenreviews", ("create",), "whose token a request for a lease carries"),
        Right("authorization.k8s.io", "subjectaccessreviews", ("create",), "whether its owner may ask for that tenant"),
        Right("", "events", ("create",), "leases refused or expired, on the pod or workload", "tenants"),
    )


def _leading() -> tuple[Right, ...]:
    lease = (names.COORDINATOR_COMPONENT,)
    return (
        Right(_GROUP, "leases", ("get", "patch"), "who leads", "namespace", lease),
        # RBAC cannot restrict a create to a name.
        Right(_GROUP, "leases", ("create",), "the first leader makes the Lease", "namespace"),
    )
