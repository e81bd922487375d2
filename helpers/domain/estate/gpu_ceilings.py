"""How many GPUs a project's jobs may hold together, what it may borrow included."""

from __future__ import annotations

from helpers.domain.estate.manager import Manager, Project


def gpu_ceiling(manager: Manager, project: Project) -> int | None:
    """The most that the namespace may ever hold; None where nothing limits it.

    Kueue and Volcano lend what others leave unused. A ResourceQuota at the project's own number would
    then refuse the pods of a job that the queue has admitted, and the job would hold cards and never run.
    """
    own_count = project.gpu_quota_count
    if own_count is None or manager.engine == "native":
        return own_count
    most_count = manager.queues.borrowing_gpu_count
    others = [other.gpu_quota_count for other in manager.projects if other.name != project.name]
    lent = [count for count in others if count is not None]
    if len(lent) < len(others):  # somebody's number is open, and so is what he lends
        return None if most_count is None else own_count + most_count
    return own_count + (sum(lent) if most_count is None else min(most_count, sum(lent)))
