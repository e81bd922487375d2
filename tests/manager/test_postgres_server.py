"""The PostgreSQL that tests and benchmarks start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

import lab.postgres_server as module
from helpers.adapters.sql_.connection import open_database
from lab.errors import LabError
from lab.postgres_server import PostgresServer, postgres_server
from lab.programs import NoProgram, Program, find_program


def test_what_was_committed_outlives_a_crash(postgres: PostgresServer) -> None:
    with postgres_server() as server:
        engine = open_database(server.url())
        with engine.begin() as connection:
            connection.execute(sa.text("create table kept as select 1 as one"))
        server.kill()
        server.start()
        engine.dispose()
        with engine.connect() as connection:
            assert connection.execute(sa.text("select one from kept")).scalar_one() == 1
        engine.dispose()
    assert not server.folder.exists()


def test_a_stranger_is_not_let_in(postgres: PostgresServer) -> None:
    engine = open_database(postgres.url().replace(postgres.password, "wrong"))
    with pytest.raises(sa.exc.OperationalError, match="password authentication failed"):
        engine.connect()


def test_programs_below_a_closed_folder_are_made_reachable(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs PostgreSQL as another user")
    found = {name: find_program(name) for name in ("postgres", "initdb")}
    closed = tmp_path / "closed"
    version = next(one.path.resolve().parents[1] for one in found.values() if not isinstance(one, NoProgram))
    shutil.copytree(version, closed / "usr/lib/postgresql" / version.name, symlinks=True)
    share = version.parents[2] / "share" / "postgresql" / version.name
    shutil.copytree(share, closed / "usr/share/postgresql" / version.name, symlinks=True)
    closed.chmod(0o700)

    def require(name: str) -> Program:
        return Program(closed / "usr/lib/postgresql" / version.name / "bin" / name, (15,), {})

    monkeypatch.setattr(module, "require_program", require)
    with postgres_server() as server:
        assert server.is_up()
        assert (server.folder / "program").is_dir()


def test_a_port_that_is_taken_is_told(postgres: PostgresServer) -> None:
    with postgres_server() as server:
        server.stop()
        server.port = postgres.port
        with pytest.raises(LabError, match="did not come up"):
            server.start()
