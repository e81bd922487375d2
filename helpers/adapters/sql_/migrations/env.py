"""Alembic's entry: always on a connection that the caller made."""

from __future__ import annotations

from alembic import context

from helpers.adapters.sql_.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
