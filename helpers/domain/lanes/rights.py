"""What the coordinator may do in the cluster: lead, and nothing else. Queues are Redis's."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.rights import Right

_GROUP = "coordination.k8s.io"


def coordinator_rights() -> tuple[Right, ...]:
    """All rights."""
    lease = (names.COORDINATOR_COMPONENT,)
    return (
        Right(_GROUP, "leases", ("get", "patch"), "who leads", "namespace", lease),
        # RBAC cannot restrict a create to a name.
        Right(_GROUP, "leases", ("create",), "the first leader makes the Lease", "namespace"),
    )
