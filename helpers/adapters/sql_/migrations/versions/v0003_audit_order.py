"""The audit log is read on from a sequence, as the history is: each row says which transaction wrote it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the column; rows that are there stay without."""
    op.add_column("audit", sa.Column("transaction_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Takes it back."""
    op.drop_column("audit", "transaction_id")
