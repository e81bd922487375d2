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


def engine_rights(engine: str, *, scheduler_gangs: bool = False) -> tuple[Right, ...]:
    """What the engine of that name does in the projects' namespaces, and what it looks at in the cluster."""
    jobs = ("create", "get", "list", "watch", "delete")
    rights = [
        Right("", "nodes", ("list", "watch"), "what there is of each kind of card, and where room is"),
        Right("batch", "jobs", jobs, "makes, follows and removes jobs' objects", "tenants"),
        Right("", "pods", ("list", "watch"), "what became of a job's pods", "tenants"),
        Right("", "pods/log", ("get",), "shows a job's output to its owner", "tenants"),
        # The websocket is opened by a GET; the API server asks for both verbs.
        Right("", "pods/exec", ("create", "get"), "tells a job by signal to save its state", "tenants"),
        Right("", "events", ("create",), "says on a job's object what was done to it", "tenants"),
        # The Job's controller says it nowhere else.
        Right("", "events", ("list",), "why the API server does not take a job's pods", "tenants"),
    ]
    if engine == "native":
        rights.append(Right("batch", "jobs", ("patch",), "lets a job go", "tenants"))
    if engine == "volcano" or scheduler_gangs:
        group = "scheduling.volcano.sh" if engine == "volcano" else "scheduling.k8s.io"
        rights.append(Right(group, "podgroups", ("create",), "all workers of a job or none", "tenants"))
    return tuple(rights)


def submitter_rights() -> tuple[Right, ...]:
    """What a user or ServiceAccount gets that may run jobs in a project, in the project's namespace."""
    why = "submits, lists, reads and cancels the project's jobs"
    return (Right(names.JOB_GROUP, names.JOB_RESOURCE, names.JOB_VERBS, why, "tenants"),)


def viewer_rights() -> tuple[Right, ...]:
    """What somebody gets who may only look."""
    why = "lists and reads the project's jobs, usage and cost"
    return (Right(names.JOB_GROUP, names.JOB_RESOURCE, ("get", "list"), why, "tenants"),)
