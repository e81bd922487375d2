"""The database's versions: up, down, and exactly what the program expects."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import head, is_current, migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.adapters.sql_.tables import METADATA
from helpers.domain.errors import InputError
from tests.manager.test_store import kept


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def test_up_and_down_and_up_again(url: str) -> None:
    engine = open_database(url)
    assert not SqlJobStore(engine).answers()
    migrate(engine)
    assert tables(engine) == {*METADATA.tables, "alembic_version"}
    assert SqlJobStore(engine).answers()
    kept(SqlJobStore(engine))
    migrate(engine, "base")
    assert tables(engine) == {"alembic_version"}
    if url.startswith("postgresql"):
        with engine.connect() as connection:
            names = connection.execute(sa.text("select proname from pg_proc where proname like '%append_only'"))
            assert names.all() == []
    migrate(engine)
    migrate(engine)
    assert is_current(engine)
    engine.dispose()


def test_the_migrations_make_exactly_the_tables(database: sa.Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": METADATA})
        assert compare_metadata(context, METADATA) == []


def test_a_database_of_a_newer_program_is_left_alone(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(InputError, match="version 9999, which this program does not know"):
        migrate(database)
    assert not is_current(database)


def test_replicas_that_start_together_migrate_once(url: str) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        engine = open_database(url)
        try:
            migrate(engine)
        except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = open_database(url)
    assert is_current(engine)
    assert head() == "0003"
    engine.dispose()
