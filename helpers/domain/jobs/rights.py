"""What the manager may do in the cluster besides its engine's work, and what its users are given."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.rights import Right

_GROUP = "coordination.k8s.io"


def manager_rights() -> tuple[Right, ...]:
    """To lead, and to ask who callers are. What its engine needs stands with the engine."""
    lease = (names.MANAGER_COMPONENT,)
    return (
        Right("authentication.k8s.io", "tokenreviews", ("create",), "whose token a request carries"),
        Right("authorization.k8s.io", "subjectaccessreviews", ("create",), "what its owner may do in the project"),
        Right("", "nodes", ("list",), "which cards there are, for the page"),
        Right(_GROUP, "leases", ("get", "patch"), "who runs the loops", "namespace", lease),
        # RBAC cannot restrict a create to a name.
        Right(_GROUP, "leases", ("create",), "the first leader makes the Lease", "namespace"),
    )


def submitter_rights() -> tuple[Right, ...]:
    """What a user or ServiceAccount gets that may run jobs in a project, in the project's namespace."""
    why = "submits, lists, reads and cancels the project's jobs"
    return (Right(names.JOB_GROUP, names.JOB_RESOURCE, names.JOB_VERBS, why, "tenants"),)


def viewer_rights() -> tuple[Right, ...]:
    """What somebody gets who may only look."""
    why = "lists and reads the project's jobs, usage and cost"
    return (Right(names.JOB_GROUP, names.JOB_RESOURCE, ("get", "list"), why, "tenants"),)
