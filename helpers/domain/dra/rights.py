"""What the node agent may do in the cluster: exactly this, and each entry with its use.

RBAC knows no "of its own node": an admission policy adds that (the ServiceAccount's token names the
node of the pod that it was made for).
"""

from __future__ import annotations

from helpers.domain.rights import Right

DRA_AGENT_COMPONENT = "gpumem-dra-agent"
FIELD_MANAGER_DRA_AGENT = "gpumem-dra-agent"
DRA_AGENT_METRICS_PORT = 9417


def dra_agent_rights() -> tuple[Right, ...]:
    """All rights."""
    group = "resource.k8s.io"
    return (
        Right("", "nodes", ("list", "watch"), "the Node that owns the slice, and its return after a registration"),
        Right(group, "resourceslices", ("list", "watch"), "its own slice, and NVIDIA's driver on the same node"),
        # Server-side apply of an object that is not there needs both.
        Right(group, "resourceslices", ("create", "patch"), "publishing"),
        Right(group, "resourceslices", ("delete",), "standing back for NVIDIA's driver; slices under other names"),
        Right(group, "resourceclaims", ("get",), "what the scheduler granted, before a container starts"),
        Right("", "events", ("create",), "what was published, and why not, on the Node", "default"),
    )
