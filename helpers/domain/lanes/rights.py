"""What the coordinator may do in the cluster: lead; and what single lanes and engines need. Queues are Redis's.

Manifests render its Roles from here, and a test takes each verb away in turn and sees what fails without it.
"""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.domain.rights import Right

_GROUP = "coordination.k8s.io"


def coordinator_rights(settings: CoordinatorSettings) -> tuple[Right, ...]:
    """All rights that a coordinator with these settings needs."""
    lease = (names.COORDINATOR_COMPONENT,)
    rights = [
        Right(_GROUP, "leases", ("get", "patch"), "who leads", "namespace", lease),
        # RBAC cannot restrict a create to a name.
        Right(_GROUP, "leases", ("create",), "the first leader makes the Lease", "namespace"),
    ]
    if any(engine.node_labels for engine in settings.engines):
        rights.append(Right("", "nodes", ("list",), "whether the node of a tenant's card is Ready"))
    if settings.hooks:
        rights += [
            Right("", "pods", ("list",), "which pods to ask to yield", "tenants"),
            Right("", "events", ("create",), "that a pod was asked to yield, and what it answered", "tenants"),
        ]
    return tuple(rights)
