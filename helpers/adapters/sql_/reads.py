"""What is read from the manager's database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from helpers.adapters.sql_ import rows
from helpers.adapters.sql_.connection import reading
from helpers.adapters.sql_.cursors import cursor_of, position_of
from helpers.adapters.sql_.migrate import is_current
from helpers.adapters.sql_.tables import attempts, audit, job_events, jobs, outbox
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.change import AuditEntry, HeldAttempt, JobFilter, OutboxRow
from helpers.domain.jobs.gpus import Demand
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.spec import Priority
from helpers.domain.jobs.states import FINAL, WAITING, JobStatus
from helpers.ports.job_store import FinishedRun, Page, QueueRow, Worked

_WAITING = sorted(status.value for status in WAITING)
_OPEN = sorted(status.value for status in JobStatus if status not in FINAL)


class SqlReads:
    """The reading half of the store."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._is_postgresql = engine.dialect.name == "postgresql"

    def job(self, job_id: str) -> Job | None:
        """The job."""
        if "\x00" in job_id:
            return None  # PostgreSQL's texts cannot hold it
        with reading(self._engine, "find the job") as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id)).mappings().first()
        return None if row is None else rows.job_of(row)

    def jobs(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """Those of them that are there."""
        with reading(self._engine, "find the jobs") as connection:
            found = connection.execute(sa.select(jobs).where(jobs.c.job_id.in_(job_ids))).mappings()
            return {row["job_id"]: rows.job_of(row) for row in found}

    def page(self, wanted: JobFilter, cursor: str, limit: int) -> Page:
        """By keyset: each page costs the same, and jobs that are submitted meanwhile move nothing."""
        statement = sa.select(jobs).where(*_conditions(wanted))
        if cursor:
            created_at, job_id = position_of(cursor)
            statement = statement.where(
                sa.or_(
                    jobs.c.created_at < created_at,
                    sa.and_(jobs.c.created_at == created_at, jobs.c.job_id < job_id),
                )
            )
        statement = statement.order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(limit + 1)
        with reading(self._engine, "list jobs") as connection:
            found = [rows.job_of(row) for row in connection.execute(statement).mappings()]
        shown = tuple(found[:limit])
        more = cursor_of(shown[-1].created_at, shown[-1].job_id) if len(found) > limit else ""
        return Page(shown, more)

    def queue(self) -> Sequence[QueueRow]:
        """Every job that is not over, in few columns."""
        columns = [jobs.c[name] for name in rows.QUEUE_COLUMNS]
        demands: dict[tuple[object, ...], Demand] = {}
        with reading(self._engine, "read the queue") as connection:
            found = connection.execute(sa.select(*columns).where(jobs.c.status.in_(_OPEN))).mappings()
            return [rows.queue_row(row, demands) for row in found]

    def waiting_before(self, job: Job, since_at: datetime) -> int:
        """How many of the newest jobs are before it."""
        mine = job.spec.priority
        more_urgent = [priority.value for priority in Priority if priority.rank < mine.rank]
        older = sa.or_(
            jobs.c.queued_at < job.queued_at,
            sa.and_(jobs.c.queued_at == job.queued_at, jobs.c.job_id < job.job_id),
        )
        statement = (
            sa.select(sa.func.count())
            .select_from(jobs)
            .where(
                jobs.c.created_at >= since_at,
                jobs.c.status.in_(_WAITING),
                sa.or_(jobs.c.priority.in_(more_urgent), sa.and_(jobs.c.priority == mine.value, older)),
            )
        )
        with reading(self._engine, "read the queue") as connection:
            return int(connection.execute(statement).scalar_one())

    def unfinished(self) -> Sequence[Job]:
        """Every job that is not over, whole."""
        statement = sa.select(jobs).where(jobs.c.status.in_(_OPEN)).order_by(jobs.c.created_at, jobs.c.job_id)
        with reading(self._engine, "read the jobs") as connection:
            return [rows.job_of(row) for row in connection.execute(statement).mappings()]

    def finished_runs(self, limit: int) -> Sequence[FinishedRun]:
        """The last ones."""
        statement = (
            sa.select(jobs)
            # None of no length: nobody saw how long that one took.
            .where(jobs.c.status == JobStatus.COMPLETED.value, jobs.c.held_seconds > 0)
            .order_by(jobs.c.ended_at.desc())
            .limit(limit)
        )
        with reading(self._engine, "read durations") as connection:
            found = [rows.finished_run(row) for row in connection.execute(statement).mappings()]
        return found[::-1]

    def events(
        self, projects: Collection[str], *, job_id: str | None, after_sequence: int, limit: int, latest: bool = False
    ) -> Sequence[JobEvent]:
        """History, oldest first."""
        statement = sa.select(job_events).where(
            job_events.c.sequence > after_sequence, job_events.c.project_id.in_(projects)
        )
        if job_id is not None:
            statement = statement.where(job_events.c.job_id == job_id)
        statement = statement.where(*self._settled(job_events))
        with reading(self._engine, "read the history") as connection:
            order = job_events.c.sequence.desc() if latest else job_events.c.sequence
            found = connection.execute(statement.order_by(order).limit(limit)).mappings().all()
            return [rows.event_of(row) for row in (reversed(found) if latest else found)]

    def audit(self, projects: Collection[str], *, after_sequence: int, limit: int) -> Sequence[AuditEntry]:
        """The audit log, oldest first."""
        statement = (
            sa.select(audit)
            .where(audit.c.sequence > after_sequence, audit.c.project_id.in_(projects), *self._settled(audit))
            .order_by(audit.c.sequence)
            .limit(limit)
        )
        with reading(self._engine, "read the audit log") as connection:
            return [rows.audit_of(row) for row in connection.execute(statement).mappings()]

    def due(self, now_at: datetime, limit: int) -> Sequence[OutboxRow]:
        """What is to be done."""
        statement = sa.select(outbox).where(outbox.c.due_at <= now_at).order_by(outbox.c.sequence).limit(limit)
        with reading(self._engine, "read the outbox") as connection:
            return [rows.outbox_of(row) for row in connection.execute(statement).mappings()]

    def outbox_count(self) -> int:
        """How much is to be done."""
        with reading(self._engine, "read the outbox") as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(outbox)).scalar_one())

    def held(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Sequence[HeldAttempt]:
        """Every stretch that touches the span."""
        statement = sa.select(attempts).where(*_touching(projects, from_at, to_at))
        with reading(self._engine, "read the usage") as connection:
            found = connection.execute(statement.order_by(attempts.c.from_at, attempts.c.job_id)).mappings()
            return [rows.attempt_of(row) for row in found]

    def worked(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Sequence[Worked]:
        """The same, each with its job."""
        columns = (attempts, jobs.c.spec, jobs.c.status, jobs.c.attempt_count)
        statement = sa.select(*columns).join(jobs).where(*_touching(projects, from_at, to_at))
        with reading(self._engine, "read the usage") as connection:
            found = connection.execute(statement.order_by(attempts.c.from_at, attempts.c.job_id)).mappings()
            return [rows.worked_of(row) for row in found]

    def counts(self, projects: Collection[str], from_at: datetime, to_at: datetime) -> Mapping[JobStatus, int]:
        """How many jobs are in which state."""
        mine = jobs.c.project_id.in_(projects) & (jobs.c.created_at >= from_at) & (jobs.c.created_at < to_at)
        statement = sa.select(jobs.c.status, sa.func.count()).where(mine).group_by(jobs.c.status)
        with reading(self._engine, "count jobs") as connection:
            return {JobStatus(status): int(count) for status, count in connection.execute(statement)}

    def _settled(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Only rows before which none can be committed any more: who reads on from a sequence misses none."""
        if not self._is_postgresql:
            return []  # SQLite has one writer at a time
        oldest = sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot())
        number = table.c.transaction_id
        return [sa.or_(number.is_(None), number < sa.cast(sa.cast(oldest, sa.Text), sa.BigInteger))]

    def answers(self) -> bool:
        """Whether it does."""
        try:
            return is_current(self._engine)
        except DependencyError:
            return False


def _touching(projects: Collection[str], from_at: datetime, to_at: datetime) -> list[sa.ColumnElement[bool]]:
    ends = sa.or_(attempts.c.to_at.is_(None), attempts.c.to_at > from_at)
    return [attempts.c.project_id.in_(projects), attempts.c.from_at < to_at, ends]


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [jobs.c.project_id.in_(sorted(wanted.projects))]
    if wanted.statuses:
        conditions.append(jobs.c.status.in_(sorted(status.value for status in wanted.statuses)))
    for column, value in (
        (jobs.c.priority, wanted.priority),
        (jobs.c.job_name, wanted.job_name),
        (jobs.c.submitted_by, wanted.submitted_by),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.created_from_at is not None:
        conditions.append(jobs.c.created_at >= wanted.created_from_at)
    if wanted.created_to_at is not None:
        conditions.append(jobs.c.created_at < wanted.created_to_at)
    return conditions
