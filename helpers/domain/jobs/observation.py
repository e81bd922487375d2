"""What the cluster shows of a job, and which state that means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from helpers.domain.jobs.states import JobStatus, steps_between


class Capability(StrEnum):
    """What an engine can do. A closed set: what is asked for beyond it is refused."""

    FIFO = "fifo"
    PRIORITY = "priority"
    FAIR_SHARE = "fair_share"
    GANG = "gang"
    PREEMPTION = "preemption"
    BORROWING = "borrowing"
    PROVISIONING_REQUEST = "provisioning_request"


class Phase(StrEnum):
    """What a job's objects say together."""

    ABSENT = "absent"
    """None is there."""
    HELD = "held"
    """There, and not let go."""
    STARTING = "starting"
    """Let go; not all pods run."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PREEMPTED = "preempted"
    """It was let go, and lost its place: its pods were evicted, or its node went away."""


LIVE = frozenset({Phase.HELD, Phase.STARTING, Phase.RUNNING})
"""Phases in which objects hold, or may come to hold, GPUs."""

_STATUS = {
    Phase.HELD: JobStatus.QUEUED,
    Phase.STARTING: JobStatus.PROVISIONING,
    Phase.RUNNING: JobStatus.RUNNING,
    Phase.SUCCEEDED: JobStatus.COMPLETED,
    Phase.FAILED: JobStatus.FAILED,
    Phase.PREEMPTED: JobStatus.PREEMPTED,
}

_NOT_RUN = (JobStatus.PENDING, JobStatus.QUEUED, JobStatus.PROVISIONING)


@dataclass(frozen=True)
class JobObservation:
    """A job in the cluster at one instant.

    Attributes:
        phase: What its objects say.
        reason: In words, for the history: the scheduler's, the pod's or the engine's own.
        at: When that was reached, by the cluster's clock; for RUNNING when its pods got their GPUs (were bound to
            nodes), because it is paid for from then on. None where no object says so.
        bound_at: When all its pods had their GPUs, of a job that is over as well: it is paid for from then on, though
            nobody saw it run. None: they never had, or no object says when.
        nodes: Where its pods are that are not over: a node once for each of them.
        pods: Their names.
        hopeless: It failed by what was seen, and its objects would hold their GPUs on: they are taken away.
    """

    phase: Phase
    reason: str = ""
    at: datetime | None = None
    nodes: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    hopeless: bool = False
    bound_at: datetime | None = None


def steps_to(status: JobStatus, seen: JobObservation) -> tuple[JobStatus, ...]:
    """The states that a job in `status` has passed through, given what is seen of it now; empty: nothing new.

    A final job whose objects are still there makes no step: they are stale. One that held GPUs and is seen held was
    taken back by the engine, so it was preempted. One whose pods had their GPUs has run, however it ended.
    """
    if seen.phase is Phase.ABSENT:
        return ()
    if status is JobStatus.RUNNING and seen.phase is Phase.STARTING:
        return ()  # a pod of it is being replaced; whether its place is lost, the engine says
    target = _STATUS[seen.phase]
    if seen.phase is Phase.HELD and status in (JobStatus.PROVISIONING, JobStatus.RUNNING):
        target = JobStatus.PREEMPTED
    if status is target:
        return ()
    if seen.bound_at is not None and target in (JobStatus.FAILED, JobStatus.PREEMPTED) and status in _NOT_RUN:
        return (*(steps_between(status, JobStatus.RUNNING) or ()), target)
    return steps_between(status, target) or ()
