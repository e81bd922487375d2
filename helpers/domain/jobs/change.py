"""What is written down when something happens to a job: one value, kept whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.states import JobStatus


class OutboxAction(StrEnum):
    """What the leader does in the cluster. Each may be done twice."""

    SUBMIT = "submit"
    """Its objects are made."""
    REMOVE = "remove"
    """Its objects are taken away."""


@dataclass(frozen=True)
class OutboxRow:
    """One act that is committed and not done yet. `sequence` is 0 before the row is kept."""

    job_id: str
    action: OutboxAction
    created_at: datetime
    sequence: int = 0
    tries_count: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what. Never changed, never removed. `before`, `after`: the parts that differ."""

    at: datetime
    actor: str
    action: str
    project_id: str
    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    sequence: int = 0


@dataclass(frozen=True)
class Change:
    """One step of a job: the job before and after, and what is noted with it."""

    old: Job
    new: Job
    at: datetime
    events: tuple[JobEvent, ...] = ()
    audit: AuditEntry | None = None
    outbox: OutboxRow | None = None

    @property
    def begins_attempt(self) -> bool:
        """Whether it begins to hold GPUs."""
        return self.old.started_at is None and self.new.started_at is not None

    @property
    def ends_attempt(self) -> bool:
        """Whether it gives its GPUs back."""
        return self.old.started_at is not None and self.new.started_at is None


@dataclass(frozen=True)
class IdempotencyKey:
    """A caller's own name of a request, unique in its project. `request_hash`: of the request that came with it."""

    project_id: str
    key: str
    request_hash: str


@dataclass(frozen=True)
class Submission:
    """All that one submit writes, in one transaction."""

    job: Job
    event: JobEvent
    audit: AuditEntry
    outbox: OutboxRow
    key: IdempotencyKey | None = None


@dataclass(frozen=True)
class HeldAttempt:
    """One stretch in which a job held its GPUs, all workers; `to_at` None: still."""

    job_id: str
    project_id: str
    attempt: int
    gpu_type: str
    size_gb: int
    kind: str
    profile: str
    amount: int
    capacity: str
    from_at: datetime
    to_at: datetime | None = None


MANAGER_ACTOR = "gpumem-manager"


def step(
    job: Job,
    new: JobStatus,
    at: datetime,
    message: str,
    *,
    actor: str = MANAGER_ACTOR,
    outbox: OutboxAction | None = None,
    audit_action: str = "",
) -> Change:
    """One step of `job` with its entry in the history.

    Raises:
        ForbiddenTransition: no such step is in the table.
    """
    after = job.moved(new, at, message)
    event = JobEvent(job.job_id, at, new.value, message, actor)
    audit = None
    if audit_action:
        before, now = {"status": job.status.value}, {"status": new.value, "reason": message}
        audit = AuditEntry(at, actor, audit_action, job.project_id, job.job_id, before, now)
    row = OutboxRow(job.job_id, outbox, at) if outbox is not None else None
    return Change(job, after, at, (event,), audit, row)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are listed. `projects`: only of these (what the caller may see); the rest None or empty: all."""

    projects: frozenset[str]
    statuses: frozenset[JobStatus] = field(default_factory=frozenset)
    priority: str | None = None
    job_name: str | None = None
    submitted_by: str | None = None
    created_from_at: datetime | None = None
    created_to_at: datetime | None = None
