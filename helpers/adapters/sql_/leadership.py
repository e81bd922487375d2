"""Leadership for plain processes that share a database: a row with a life."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from helpers.adapters.renewed_leadership import RenewedLeadership
from helpers.adapters.sql_.connection import writing
from helpers.adapters.sql_.tables import leaders
from helpers.ports.clock import Clock
from helpers.ports.log import Log

LIFE_SECONDS = 15.0
_NAME = "manager"


class DatabaseLeadership(RenewedLeadership):
    """One row."""

    def __init__(
        self, engine: sa.Engine, clock: Clock, log: Log, *, identity: str, life_seconds: float = LIFE_SECONDS
    ) -> None:
        super().__init__(clock, log, identity=identity, life_seconds=life_seconds)
        self._engine = engine

    def _give_back(self) -> None:
        mine = (leaders.c.name == _NAME) & (leaders.c.holder == self._identity)
        with writing(self._engine, "take the leadership back") as connection:
            connection.execute(sa.delete(leaders).where(mine))

    def _take(self) -> bool:
        try:
            with writing(self._engine, "say who leads") as connection:
                now_at = self._now_at(connection)
                values = {"holder": self._identity, "until_at": now_at + timedelta(seconds=self._life_seconds)}
                free = (leaders.c.holder == self._identity) | (leaders.c.until_at < now_at)
                statement = sa.update(leaders).where(leaders.c.name == _NAME, free).values(values)
                if connection.execute(statement).rowcount == 1:
                    return True
                held = connection.execute(sa.select(leaders.c.holder).where(leaders.c.name == _NAME)).first()
                if held is None:
                    connection.execute(sa.insert(leaders), values | {"name": _NAME})
                return held is None
        except IntegrityError:
            return False  # somebody else was first

    def _now_at(self, connection: sa.Connection) -> datetime:
        """The database's clock; a SQLite file is on this machine, and so is its clock."""
        if self._engine.dialect.name == "sqlite":
            return self._clock.now_at()
        now_at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now_at
