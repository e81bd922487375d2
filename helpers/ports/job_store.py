"""Where jobs are kept: what must outlive the cluster's objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from helpers.domain.jobs.change import (
    AuditEntry,
    Change,
    HeldAttempt,
    IdempotencyKey,
    JobFilter,
    OutboxRow,
    Submission,
)
from helpers.domain.jobs.gpus import Demand
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.spec import JobSpec, Priority
from helpers.domain.jobs.states import JobStatus


@dataclass(frozen=True)
class Kept:
    """What a submit came to. `created`: now; else `job` is the one that has the key. `key`: the one that was kept."""

    job: Job
    created: bool
    key: IdempotencyKey | None = None


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and where the next page begins; empty: this is the last."""

    jobs: tuple[Job, ...]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A job that is not over, as far as the queue needs it: thousands are read at a time."""

    job_id: str
    project_id: str
    job_name: str
    priority: Priority
    status: JobStatus
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    held_seconds: float
    demand: Demand
    max_duration_hours: float | None
    capacity: str


@dataclass(frozen=True)
class FinishedRun:
    """How long a job that ended well had held its GPUs."""

    project_id: str
    job_name: str
    demand: Demand
    seconds: float


@dataclass(frozen=True)
class Worked:
    """A stretch in which a job held its GPUs, and the job as it is now."""

    attempt: HeldAttempt
    spec: JobSpec
    status: JobStatus
    attempt_count: int


class JobStore(Protocol):
    """All of it raises DependencyError where the database does not answer: then nothing was written."""

    def submit(self, submission: Submission) -> Kept:
        """Keeps all of it in one transaction, or finds the job that has its key."""
        ...

    def apply(self, changes: Sequence[Change], *, done: OutboxRow | None = None) -> bool:
        """Writes a job's steps and removes the outbox row that is done with them, all in one transaction.

        False: somebody else changed the job meanwhile, and nothing was written.
        """
        ...

    def queued(self, changes: Sequence[tuple[Change, OutboxRow]]) -> frozenset[str]:
        """Writes that the objects of many pending jobs are there, with the outbox rows that are done with it.

        The ids of those that were written; the others are not pending any more. `changes`: at least one.
        """
        ...

    def jobs(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """`{job_id: job}` of those that are there."""
        ...

    def job(self, job_id: str) -> Job | None:
        """The job; None: there is none."""
        ...

    def page(self, wanted: JobFilter, cursor: str, limit: int) -> Page:
        """The jobs after `cursor` (empty: from the newest on). InputError: the cursor is none of ours."""
        ...

    def queue(self) -> Sequence[QueueRow]:
        """Every job that is not over."""
        ...

    def waiting_before(self, job: Job, since_at: datetime) -> int:
        """How many of the jobs that were created since then wait, and are more urgent or older than `job`."""
        ...

    def unfinished(self) -> Sequence[Job]:
        """The same, whole."""
        ...

    def finished_runs(self, limit: int) -> Sequence[FinishedRun]:
        """The last ones, oldest first."""
        ...

    def events(
        self, projects: Collection[str], *, job_id: str | None, after_sequence: int, limit: int, latest: bool = False
    ) -> Sequence[JobEvent]:
        """History, oldest first. What is committed later never appears before what was given.

        `latest`: of more than `limit` entries the last ones, not the first.
        """
        ...

    def audit(self, projects: Collection[str], *, after_sequence: int, limit: int) -> Sequence[AuditEntry]:
        """Who changed what, oldest first."""
        ...

    def due(self, now_at: datetime, limit: int) -> Sequence[OutboxRow]:
        """What is to be done in the cluster now, in the order of commits."""
        ...

    def done(self, row: OutboxRow) -> None:
        """It is done."""
        ...

    def try_again(self, row: OutboxRow, at: datetime, error: str) -> None:
        """It could not be done, and is due again at `at`."""
        ...

    def outbox_count(self) -> int:
        """How much is not done yet."""
        ...

    def held(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Sequence[HeldAttempt]:
        """Every stretch that touches the span."""
        ...

    def worked(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Sequence[Worked]:
        """The same, each with its job."""
        ...

    def counts(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Mapping[JobStatus, int]:
        """How many jobs that were created in the span are in which state."""
        ...

    def answers(self) -> bool:
        """Whether the database answers, and has the tables that this version expects."""
        ...
