"""Brings the database to the version that this program expects, and says whether it is there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from helpers.adapters.sql_.connection import answering, writing
from helpers.domain.errors import InputError

MIGRATIONS = Path(__file__).parent / "migrations"
# Replicas start together; one migrates, and the others wait. Any number that nobody else uses.
_LOCK = 7_206_201_104


def migrate(engine: sa.Engine, version: str = "head") -> None:
    """Up to `version`, or down to it (`base`: nothing is left).

    Raises:
        DependencyError: the database does not answer.
        InputError: it has a version that this program does not know.
    """
    with writing(engine, "take its new version") as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = config_of(connection)
        have = MigrationContext.configure(connection).get_current_revision()
        _require_known(have)
        down = version == "base" or (have is not None and version != "head" and version < have)
        (command.downgrade if down else command.upgrade)(config, version)


def config_of(connection: sa.Connection) -> Config:
    """Alembic's configuration for one connection; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def is_current(engine: sa.Engine) -> bool:
    """Whether the database has the version that this program expects."""
    with answering("tell its version"), engine.connect() as connection, connection.begin():
        return MigrationContext.configure(connection).get_current_revision() == head()


def head() -> str:
    """The version that this program expects."""
    return str(_scripts().get_current_head())


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def _require_known(version: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if version is not None and version not in known:
        raise InputError(
            f"the database has version {version}, which this program does not know ({', '.join(sorted(known))}). "
            "A newer manager was here: run that version, or restore the backup from before it."
        )
