"""Leadership for plain processes that share a database: a row with a life, renewed as it is asked for.

The holder stops believing in it after two thirds of that life on its own clock, counted from before it
asked; another process gets the row only after the whole of it on the database's.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from helpers.adapters.sql_.connection import writing
from helpers.adapters.sql_.tables import leaders
from helpers.domain.errors import DependencyError
from helpers.ports.clock import Clock
from helpers.ports.log import Log

LIFE_SECONDS = 15.0
_NAME = "manager"


class DatabaseLeadership:
    """`ports.leadership.Leadership`."""

    def __init__(
        self, engine: sa.Engine, clock: Clock, log: Log, *, identity: str, life_seconds: float = LIFE_SECONDS
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._log = log
        self._identity = identity
        self._life_seconds = life_seconds
        self._until_seconds = float("-inf")
        self._asked_seconds = float("-inf")
        self._led = False
        self._lock = threading.Lock()

    def leads(self) -> bool:
        """Whether this process may act now; asks the database a few times in each life. Any thread may ask."""
        with self._lock:
            now_seconds = self._clock.monotonic_seconds()
            if now_seconds - self._asked_seconds >= self._life_seconds / 6:
                self._asked_seconds = now_seconds
                self._ask(now_seconds)
            leads = self._clock.monotonic_seconds() < self._until_seconds
            if leads != self._led:
                self._led = leads
                self._log.info("leadership_won" if leads else "leadership_lost", identity=self._identity)
            return leads

    def give_up(self) -> None:
        """Lets the next process lead at once."""
        self._until_seconds = float("-inf")
        mine = (leaders.c.name == _NAME) & (leaders.c.holder == self._identity)
        try:
            with writing(self._engine, "take the leadership back") as connection:
                connection.execute(sa.delete(leaders).where(mine))
        except DependencyError as error:
            self._log.warning("leadership_not_given_up", reason=str(error))  # its life ends by itself

    def _ask(self, now_seconds: float) -> None:
        try:
            taken = self._take()
        except DependencyError as error:
            # Not answered is not refused: what was renewed holds until its time.
            self._log.warning("leadership_not_renewed", reason=str(error))
            return
        self._until_seconds = now_seconds + self._life_seconds * 2 / 3 if taken else float("-inf")

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
