"""Databases of the manager's tests: SQLite in a file, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.metrics import ListenAddress
from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from lab.postgres_server import PostgresServer, postgres_server
from lab.programs import NoProgram, find_program
from tests.manager.scene import Scene

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each test makes a database of its own in it."""
    found = find_program("postgres")
    if isinstance(found, NoProgram):
        pytest.skip(f"no PostgreSQL: {found.reason}")
    with postgres_server() as server:
        yield server


def new_database(server: PostgresServer) -> str:
    """The URL of an empty database."""
    admin = open_database(server.url()).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        count = connection.execute(sa.text("select count(*) from pg_database")).scalar_one()
        name = f"test{count}"
        connection.execute(sa.text(f"create database {name}"))
    admin.dispose()
    return server.url(name)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on each."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def database(url: str) -> Iterator[sa.Engine]:
    """A database with all its tables."""
    engine = open_database(url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(database: sa.Engine) -> SqlJobStore:
    """A store in it."""
    return SqlJobStore(database)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """The API, served."""
    one = Scene(tmp_path)
    with asgi_served(one.application, ListenAddress(), name="api", option="--address") as port:
        one.client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        yield one
        one.client.close()
