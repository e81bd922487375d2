"""The states of a job and the one table of how it gets from one to another."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from helpers.domain.errors import CheckFailed


class JobStatus(StrEnum):
    """Where a job is. The words of the API."""

    PENDING = "pending"
    """Committed in the database; no object in the cluster yet."""
    QUEUED = "queued"
    """Its objects are in the cluster, held."""
    PROVISIONING = "provisioning"
    """Let go; its pods wait for a node."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    """Its place was taken away; it goes back into the queue."""
    CANCELLED = "cancelled"


FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
WAITING = frozenset({JobStatus.PENDING, JobStatus.QUEUED, JobStatus.PREEMPTED})
HOLDING = frozenset({JobStatus.PROVISIONING, JobStatus.RUNNING})
"""States in which a job counts against its project and its pool. It is paid for while it runs."""

_S = JobStatus
TRANSITIONS: dict[tuple[JobStatus, JobStatus], str] = {
    (_S.PENDING, _S.QUEUED): "its objects were created, held",
    (_S.PENDING, _S.FAILED): "the cluster refused its objects",
    (_S.QUEUED, _S.PROVISIONING): "the engine let it go",
    (_S.QUEUED, _S.FAILED): "its objects vanished, or can never run",
    (_S.PROVISIONING, _S.RUNNING): "all its pods run",
    (_S.PROVISIONING, _S.FAILED): "its pods can never run, or a limit was reached",
    (_S.PROVISIONING, _S.PREEMPTED): "its place was taken before it ran",
    (_S.RUNNING, _S.COMPLETED): "all its pods succeeded",
    (_S.RUNNING, _S.FAILED): "a pod failed, or a limit was reached",
    (_S.RUNNING, _S.PREEMPTED): "its node or its place was taken away",
    (_S.PREEMPTED, _S.QUEUED): "it waits for another attempt, from its last checkpoint",
    **{(state, _S.CANCELLED): "a user cancelled it" for state in _S if state not in FINAL},
}


class ForbiddenTransition(CheckFailed):
    """A job cannot get from one state to another."""

    def __init__(self, job_id: str, old: JobStatus, new: JobStatus) -> None:
        allowed = ", ".join(sorted(to for (of, to) in TRANSITIONS if of is old)) or "nothing, it is final"
        super().__init__(f"job {job_id} is {old} and cannot become {new}; from {old} it becomes: {allowed}")


def is_allowed(old: JobStatus, new: JobStatus) -> bool:
    """Whether one step leads from `old` to `new`."""
    return (old, new) in TRANSITIONS


def check_transition(job_id: str, old: JobStatus, new: JobStatus) -> None:
    """Nothing where one step leads from `old` to `new`.

    Raises:
        ForbiddenTransition: none does.
    """
    if not is_allowed(old, new):
        raise ForbiddenTransition(job_id, old, new)


def steps_between(old: JobStatus, new: JobStatus) -> tuple[JobStatus, ...] | None:
    """The shortest way from `old` to `new`, without `old`; None where there is none.

    A watch may miss states: a short job is seen queued and then completed. What was missed is written down, too.
    """
    ways: deque[tuple[JobStatus, ...]] = deque([(old,)])
    seen = {old}
    while ways:
        way = ways.popleft()
        if way[-1] is new:
            return way[1:]
        for of, to in TRANSITIONS:
            if of is way[-1] and to not in seen:
                seen.add(to)
                ways.append((*way, to))
    return None


def graph() -> str:
    """The table as a Mermaid state diagram, for the documents."""
    lines = [f"    {old} --> {new}: {why}" for (old, new), why in TRANSITIONS.items() if new is not _S.CANCELLED]
    ends = [f"    {state} --> [*]" for state in JobStatus if state in FINAL]
    return "\n".join(["stateDiagram-v2", "    [*] --> pending: committed", *lines, *ends])
