"""Connections to the manager's database, and its errors in the project's words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from helpers.domain.errors import DependencyError, InputError

CONNECT_BOUND_SECONDS = 5
# One request holds one; more at once wait for each other here instead of in the database.
MOST_CONNECTIONS_COUNT = 16
STATEMENT_BOUND_MS = 15_000
_SQLITE_BUSY_MS = 5_000


def open_database(url: str) -> sa.Engine:
    """Connections to the database at `url`; none is made yet.

    Raises:
        InputError: the URL is none of SQLite's or PostgreSQL's.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise InputError(
            "the database's URL cannot be read. Write it like postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME, "
            "or sqlite:////var/lib/gpumem/jobs.db"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite(parsed)
    if backend != "postgresql":
        raise InputError(f"the database is a {backend}; use postgresql+psycopg://… or sqlite:///…")
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=MOST_CONNECTIONS_COUNT,
        max_overflow=0,
        pool_timeout=CONNECT_BOUND_SECONDS,
        pool_pre_ping=False,  # a round trip for each request; a connection that broke is told by its first statement
        pool_recycle=900,
        connect_args={
            "connect_timeout": CONNECT_BOUND_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_BOUND_MS} -c timezone=UTC",
            "application_name": "gpumem-manager",
        },
    )


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database not in (None, "", ":memory:"):
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": _SQLITE_BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by rules of its own
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_SQLITE_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A reader that writes later could find that it must begin again; whoever writes says so at once.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextlib.contextmanager
def answering(what: str) -> Iterator[None]:
    """Translates the database's silence.

    Raises:
        DependencyError: it did not answer, or broke off; nothing of the transaction is there, unless it was
            lost while it was being committed.
    """
    try:
        yield
    except (exc.InterfaceError, exc.OperationalError, exc.InternalError, exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise DependencyError(f"the database did not {what}: {str(cause).splitlines()[0][:300]}") from error


@contextlib.contextmanager
def writing(engine: sa.Engine, what: str) -> Iterator[sa.Connection]:
    """A transaction that writes, committed at the end of the block."""
    with answering(what), engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def reading(engine: sa.Engine, what: str) -> Iterator[sa.Connection]:
    """A transaction that reads."""
    with answering(what), engine.connect() as connection, connection.begin():
        yield connection
