"""`ports.job_store.JobStore` on SQLite and PostgreSQL: what is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from helpers.adapters.sql_ import rows
from helpers.adapters.sql_.connection import reading, writing
from helpers.adapters.sql_.reads import SqlReads
from helpers.adapters.sql_.tables import attempts, audit, idempotency_keys, job_events, jobs, outbox
from helpers.domain.jobs.change import Change, IdempotencyKey, OutboxRow, Submission
from helpers.ports.job_store import Kept

_LONGEST_ERROR = 1000


class SqlJobStore(SqlReads):
    """The manager's database."""

    def submit(self, submission: Submission) -> Kept:
        """Keeps it, or finds the job that has its key."""
        if submission.key is not None:
            kept = self._of_key(submission.key)
            if kept is not None:
                return kept
        try:
            with writing(self._engine, "take the job") as connection:
                self._insert(connection, submission)
        except IntegrityError:
            # Two requests with one key at the same moment: the other was quicker.
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
        job = submission.job
        connection.execute(sa.insert(jobs), rows.job_row(job))
        if submission.key is not None:
            key = submission.key
            values = {"project_id": key.project_id, "key": key.key, "request_hash": key.request_hash}
            connection.execute(sa.insert(idempotency_keys), values | {"job_id": job.job_id})
        self._event(connection, rows.event_row(submission.event, job.project_id))
        connection.execute(sa.insert(audit).inline(), rows.audit_row(submission.audit))
        connection.execute(sa.insert(outbox).inline(), rows.outbox_row(submission.outbox))

    def _update(self, connection: sa.Connection, change: Change) -> bool:
        statement = (
            sa.update(jobs)
            .where(jobs.c.job_id == change.old.job_id, jobs.c.version == change.old.version)
            .values(rows.changing_row(change.new))
        )
        return connection.execute(statement).rowcount == 1

    def _note(self, connection: sa.Connection, change: Change) -> None:
        for event in change.events:
            self._event(connection, rows.event_row(event, change.new.project_id))
        if change.audit is not None:
            connection.execute(sa.insert(audit).inline(), rows.audit_row(change.audit))
        if change.outbox is not None:
            connection.execute(sa.insert(outbox).inline(), rows.outbox_row(change.outbox))
        if change.begins_attempt:
            connection.execute(sa.insert(attempts), rows.attempt_row(change))
        if change.ends_attempt:
            mine = (attempts.c.job_id == change.new.job_id) & (attempts.c.attempt == change.new.attempt_count)
            connection.execute(sa.update(attempts).where(mine).values(to_at=change.at))

    def _event(self, connection: sa.Connection, values: dict[str, Any]) -> None:
        if self._is_postgresql:
            now_id = sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.Text), sa.BigInteger)
            connection.execute(sa.insert(job_events).inline().values(**values, transaction_id=now_id))
        else:
            connection.execute(sa.insert(job_events).inline(), values)

    def _of_key(self, key: IdempotencyKey) -> Kept | None:
        where = (idempotency_keys.c.project_id == key.project_id) & (idempotency_keys.c.key == key.key)
        statement = sa.select(idempotency_keys.c.request_hash, jobs).join(jobs).where(where)
        with reading(self._engine, "find the key") as connection:
            row = connection.execute(statement).mappings().first()
        if row is None:
            return None
        found = IdempotencyKey(key.project_id, key.key, row["request_hash"])
        return Kept(rows.job_of(row), created=False, key=found)
