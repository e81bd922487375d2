"""`ports.job_store.JobStore` on SQLite and PostgreSQL: what is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from helpers.adapters.sql_ import rows
from helpers.adapters.sql_.connection import answering, reading, writing
from helpers.adapters.sql_.reads import SqlReads
from helpers.adapters.sql_.tables import attempts, audit, idempotency_keys, job_events, jobs, outbox
from helpers.domain.jobs.change import Change, IdempotencyKey, OutboxRow, Submission
from helpers.domain.jobs.states import JobStatus
from helpers.ports.job_store import Kept

_LONGEST_ERROR = 1000
# The tables that a statement writes, in their order, with the columns that it sets of each.
_Shape = tuple[tuple[sa.Table, tuple[str, ...]], ...]


class SqlJobStore(SqlReads):
    """The manager's database."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._submits: dict[_Shape, sa.Insert] = {}

    def submit(self, submission: Submission) -> Kept:
        """Keeps it, or finds the job that has its key."""
        try:
            if self._is_postgresql:
                self._insert_at_once(submission)
            else:
                with writing(self._engine, "take the job") as connection:
                    self._insert(connection, submission)
        except IntegrityError:
            # Its key is there already; or, once in a very long time, its id is.
            kept = self._of_key(submission.key) if submission.key is not None else None
            if kept is None:
                raise
            return kept
        return Kept(submission.job, created=True, key=submission.key)

    def apply(self, changes: Sequence[Change], *, done: OutboxRow | None = None) -> bool:
        """Writes all of it, or nothing."""
        with writing(self._engine, "take the change") as connection:
            for change in changes:
                if not self._update(connection, change):
                    connection.rollback()
                    return False
                self._note(connection, change)
            if done is not None:
                connection.execute(sa.delete(outbox).where(outbox.c.sequence == done.sequence))
        return True

    def queued(self, changes: Sequence[tuple[Change, OutboxRow]]) -> frozenset[str]:
        """Writes that the objects of many pending jobs are there, in a handful of statements; which were written."""
        reason = changes[0][0].new.reason
        ids = [change.new.job_id for change, _ in changes]
        statement = (
            sa.update(jobs)
            .where(jobs.c.job_id.in_(ids), jobs.c.status == JobStatus.PENDING.value)
            .values(status=JobStatus.QUEUED.value, reason=reason, version=jobs.c.version + 1)
            .returning(jobs.c.job_id)
        )
        with writing(self._engine, "take the changes") as connection:
            written = frozenset(connection.execute(statement).scalars())
            kept = [(change, row) for change, row in changes if change.new.job_id in written]
            events = [rows.event_row(event, change.new.project_id) for change, _ in kept for event in change.events]
            if events:
                connection.execute(self._insert_into(job_events), events)
            numbers = [row.sequence for _, row in kept]
            connection.execute(sa.delete(outbox).where(outbox.c.sequence.in_(numbers)))
        return written

    def done(self, row: OutboxRow) -> None:
        """Removes it."""
        with writing(self._engine, "take the change") as connection:
            connection.execute(sa.delete(outbox).where(outbox.c.sequence == row.sequence))

    def try_again(self, row: OutboxRow, at: datetime, error: str) -> None:
        """Moves it."""
        values = {"due_at": at, "tries_count": row.tries_count + 1, "last_error": error[:_LONGEST_ERROR]}
        with writing(self._engine, "take the change") as connection:
            connection.execute(sa.update(outbox).where(outbox.c.sequence == row.sequence).values(values))

    def _insert(self, connection: sa.Connection, submission: Submission) -> None:
        for table, values in _submission_rows(submission):
            connection.execute(self._insert_into(table), values)

    def _insert_at_once(self, submission: Submission) -> None:
        """One statement, so one way to the server and back; it is a transaction by itself."""
        made = _submission_rows(submission)
        shape = tuple((table, tuple(values)) for table, values in made)
        statement = self._submits.get(shape)
        if statement is None:  # made once: SQLAlchemy's part of it costs more than all the rest of a submit
            statement = self._submits[shape] = self._submit_of(shape)
        given = {_bound(n, name): value for n, (_, values) in enumerate(made) for name, value in values.items()}
        with answering("take the job"), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(statement, given)

    def _submit_of(self, shape: _Shape) -> sa.Insert:
        parts = [
            self._insert_into(table).values(
                {name: sa.bindparam(_bound(n, name), type_=table.c[name].type) for name in columns}
            )
            for n, (table, columns) in enumerate(shape)
        ]
        return parts[-1].add_cte(*(part.cte(f"part{n}") for n, part in enumerate(parts[:-1])))

    def _update(self, connection: sa.Connection, change: Change) -> bool:
        statement = (
            sa.update(jobs)
            .where(jobs.c.job_id == change.old.job_id, jobs.c.version == change.old.version)
            .values(rows.changing_row(change.new))
        )
        return connection.execute(statement).rowcount == 1

    def _note(self, connection: sa.Connection, change: Change) -> None:
        for event in change.events:
            connection.execute(self._insert_into(job_events), rows.event_row(event, change.new.project_id))
        if change.audit is not None:
            connection.execute(self._insert_into(audit), rows.audit_row(change.audit))
        if change.outbox is not None:
            connection.execute(sa.insert(outbox).inline(), rows.outbox_row(change.outbox))
        if change.begins_attempt:
            connection.execute(sa.insert(attempts), rows.attempt_row(change))
        if change.ends_attempt:
            mine = (attempts.c.job_id == change.new.job_id) & (attempts.c.attempt == change.new.attempt_count)
            connection.execute(sa.update(attempts).where(mine).values(to_at=change.at))

    def _insert_into(self, table: sa.Table) -> sa.Insert:
        """With the transaction's number, where rows are read on from a sequence."""
        statement = sa.insert(table).inline()
        if not self._is_postgresql or table not in (job_events, audit):
            return statement
        now_id = sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.Text), sa.BigInteger)
        return statement.values(transaction_id=now_id)

    def _of_key(self, key: IdempotencyKey) -> Kept | None:
        where = (idempotency_keys.c.project_id == key.project_id) & (idempotency_keys.c.key == key.key)
        statement = sa.select(idempotency_keys.c.request_hash, jobs).join(jobs).where(where)
        with reading(self._engine, "find the key") as connection:
            row = connection.execute(statement).mappings().first()
        if row is None:
            return None
        found = IdempotencyKey(key.project_id, key.key, row["request_hash"])
        return Kept(rows.job_of(row), created=False, key=found)


def _bound(part: int, column: str) -> str:
    return f"part{part}_{column}"


def _submission_rows(submission: Submission) -> list[tuple[sa.Table, dict[str, Any]]]:
    """All that a submit writes; the job first, because the others name it."""
    job, key = submission.job, submission.key
    made: list[tuple[sa.Table, dict[str, Any]]] = [(jobs, rows.job_row(job))]
    if key is not None:
        values = {"project_id": key.project_id, "key": key.key, "request_hash": key.request_hash}
        made.append((idempotency_keys, values | {"job_id": job.job_id}))
    made.append((job_events, rows.event_row(submission.event, job.project_id)))
    made.append((audit, rows.audit_row(submission.audit)))
    made.append((outbox, rows.outbox_row(submission.outbox)))
    return made
