"""A job as it is kept, and the entries of its history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from helpers.domain.jobs.spec import JobSpec
from helpers.domain.jobs.states import FINAL, HOLDING, JobStatus, check_transition

Capacity = Literal["spot", "on-demand"]
JOB_ID_PREFIX = "gpu-job-"


@dataclass(frozen=True)
class Job:
    """One job. Immutable; `moved` gives the next value.

    Attributes:
        job_id: Also the name of its objects in the cluster.
        queued_at: When its present wait began (at its creation, or at its last preemption).
        started_at: When its present attempt got its GPUs, and has been paid for since; None while it has none.
        first_started_at: When its first attempt got them.
        held_seconds: Wall time over which past attempts held its GPUs.
        attempt_count: How often it has been let go.
        capacity: What it may run on now.
        cost_usd: Of past attempts, as they were billed.
        checkpoint_at: When it last said, or was told, that its state is safe.
        version: Counts its changes, so that of two writers the later one is noticed.
    """

    job_id: str
    spec: JobSpec
    status: JobStatus
    created_at: datetime
    submitted_by: str
    queued_at: datetime
    started_at: datetime | None = None
    first_started_at: datetime | None = None
    ended_at: datetime | None = None
    held_seconds: float = 0.0
    attempt_count: int = 0
    capacity: Capacity = "on-demand"
    cost_usd: Decimal = field(default_factory=Decimal)
    checkpoint_at: datetime | None = None
    reason: str = ""
    warned: tuple[str, ...] = ()
    version: int = 1

    @property
    def project_id(self) -> str:
        """Its project, which is its namespace."""
        return self.spec.project_id

    @property
    def is_final(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.status in FINAL

    def held_until_seconds(self, now_at: datetime) -> float:
        """Wall time over which it has held its GPUs, the present attempt included."""
        running = (now_at - self.started_at).total_seconds() if self.started_at is not None else 0.0
        return self.held_seconds + max(0.0, running)

    def moved(self, new: JobStatus, at: datetime, reason: str = "") -> Job:
        """The job after one step.

        Raises:
            ForbiddenTransition: no such step is in the table.
        """
        check_transition(self.job_id, self.status, new)
        changes: dict[str, object] = {"status": new, "reason": reason, "version": self.version + 1}
        if new is JobStatus.PROVISIONING:
            changes |= {"attempt_count": self.attempt_count + 1}
        if new is JobStatus.RUNNING:
            changes |= {"started_at": at, "first_started_at": self.first_started_at or at}
        if self.status is JobStatus.RUNNING:
            changes |= {"held_seconds": self.held_until_seconds(at), "started_at": None}
        if new is JobStatus.PREEMPTED:
            changes |= {"queued_at": at}
        if new in FINAL:
            changes |= {"ended_at": at}
        return replace(self, **changes)  # type: ignore[arg-type] # each name is a field's, with its type


@dataclass(frozen=True)
class JobEvent:
    """One entry of a job's history; never changed, never removed.

    `sequence` grows over all jobs and is 0 before the entry is kept. `actor`: a user, or the manager's own name.
    """

    job_id: str
    at: datetime
    kind: str
    """`submitted`, a status that was reached, `warning`, `checkpoint`, `cancel_requested`."""
    message: str
    actor: str
    sequence: int = 0


def wait_seconds(job: Job, now_at: datetime) -> float:
    """How long it has waited for its present turn; 0 while it holds GPUs or is over."""
    if job.status in HOLDING or job.is_final:
        return 0.0
    return max(0.0, (now_at - job.queued_at) / timedelta(seconds=1))
