"""Which messages about budgets were delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from helpers.adapters.sql_.append_only import protect, unprotect

revision = "0002"
down_revision = "0001"

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
USD = sa.Numeric(16, 4).with_variant(sa.String(24), "sqlite")
TABLE = "sent_alerts"


def upgrade() -> None:
    """Makes it."""
    op.create_table(
        TABLE,
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("project_id", sa.String(length=63), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("threshold_percent", sa.Integer(), nullable=False),
        sa.Column("spent_usd", USD, nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_sent_alerts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sent_alerts_project_month", TABLE, ["project_id", "month"])
    protect(TABLE)


def downgrade() -> None:
    """Takes it back: what was said will be said again."""
    op.drop_table(TABLE)
    unprotect(TABLE)
