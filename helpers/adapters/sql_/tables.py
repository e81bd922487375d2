"""The tables. What a migration makes must be exactly this: a test compares."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant. SQLite has no zones: there it is written in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Usd(TypeDecorator[Decimal]):
    """Exact money. SQLite has no decimals: there it is a text."""

    impl = sa.Numeric(16, 4)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """The column's own type."""
        return dialect.type_descriptor(sa.String(24) if dialect.name == "sqlite" else sa.Numeric(16, 4))

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Any:
        """To the database."""
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else Decimal(value)


Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# SQLite counts up by itself in INTEGER keys only.
Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# What no statement may change or remove; both databases have triggers for it.
APPEND_ONLY = ("job_events", "audit", "sent_alerts")

jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("job_id", sa.String(63), primary_key=True),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("job_name", sa.String(63), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(8), nullable=False),
    sa.Column("gpu_type", sa.String(32), nullable=False),
    sa.Column("size_gb", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("profile", sa.String(16), nullable=False),
    sa.Column("worker_amount", sa.Integer, nullable=False),
    sa.Column("workers", sa.Integer, nullable=False),
    sa.Column("max_duration_hours", sa.Float),
    sa.Column("spec", Json, nullable=False),
    sa.Column("submitted_by", Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("first_started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("held_seconds", sa.Float, nullable=False),
    sa.Column("attempt_count", sa.Integer, nullable=False),
    sa.Column("capacity", sa.String(16), nullable=False),
    sa.Column("cost_usd", Usd, nullable=False),
    sa.Column("checkpoint_at", UtcDateTime),
    sa.Column("reason", Text, nullable=False),
    sa.Column("warned", Json, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    # A list is read from its newest end, of some projects; the queue is what is not over.
    sa.Index("ix_jobs_created", "created_at", "job_id"),
    sa.Index("ix_jobs_project_created", "project_id", "created_at", "job_id"),
    sa.Index("ix_jobs_status_ended", "status", "ended_at"),
)

job_events = sa.Table(
    "job_events",
    METADATA,
    sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(63), sa.ForeignKey("jobs.job_id"), nullable=False),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("actor", Text, nullable=False),
    # PostgreSQL numbers rows before they are committed: who reads on from a number must not miss one
    # that was committed later under a smaller one. Readers stop before the oldest open transaction.
    sa.Column("transaction_id", sa.BigInteger),
    sa.Index("ix_job_events_job", "job_id", "sequence"),
    sa.Index("ix_job_events_project", "project_id", "sequence"),
    sqlite_autoincrement=True,
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("subject", sa.String(63), nullable=False),
    sa.Column("before", Json),
    sa.Column("after", Json),
    # As in job_events. Entries from before there was such a column were committed long ago and have none.
    sa.Column("transaction_id", sa.BigInteger),
    sa.Index("ix_audit_project", "project_id", "sequence"),
    sqlite_autoincrement=True,
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(63), sa.ForeignKey("jobs.job_id"), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("tries_count", sa.Integer, nullable=False),
    sa.Column("last_error", Text, nullable=False),
    sa.Index("ix_outbox_due", "due_at", "sequence"),
    sqlite_autoincrement=True,
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    sa.Column("project_id", sa.String(63), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("job_id", sa.String(63), sa.ForeignKey("jobs.job_id"), nullable=False),
)

attempts = sa.Table(
    "attempts",
    METADATA,
    sa.Column("job_id", sa.String(63), sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("gpu_type", sa.String(32), nullable=False),
    sa.Column("size_gb", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("profile", sa.String(16), nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("capacity", sa.String(16), nullable=False),
    sa.Column("from_at", UtcDateTime, nullable=False),
    sa.Column("to_at", UtcDateTime),
    sa.Index("ix_attempts_project_from", "project_id", "from_at"),
)

sent_alerts = sa.Table(
    "sent_alerts",
    METADATA,
    sa.Column("sequence", Sequence, primary_key=True, autoincrement=True),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("project_id", sa.String(63), nullable=False),
    sa.Column("month", sa.String(7), nullable=False),
    sa.Column("threshold_percent", sa.Integer, nullable=False),
    sa.Column("spent_usd", Usd, nullable=False),
    sa.Column("sent_at", UtcDateTime, nullable=False),
    sa.Index("ix_sent_alerts_project_month", "project_id", "month"),
    sqlite_autoincrement=True,
)

leaders = sa.Table(
    "leaders",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", Text, nullable=False),
    sa.Column("until_at", UtcDateTime, nullable=False),
)
