"""Which of several processes that share a database may act."""

from __future__ import annotations

import sqlalchemy as sa

from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.leadership import LIFE_SECONDS, DatabaseLeadership
from tests.fakes.outside import FakeClock, FakeLog


class Candidate:
    """One process, with a clock of its own."""

    def __init__(self, database: sa.Engine, name: str, life_seconds: float = LIFE_SECONDS) -> None:
        self.clock, self.log = FakeClock(), FakeLog()
        self.leadership = DatabaseLeadership(database, self.clock, self.log, identity=name, life_seconds=life_seconds)

    def leads(self, after_seconds: float = 0.0) -> bool:
        self.clock.advance(after_seconds)
        return self.leadership.leads()


def test_one_leads_until_it_gives_up(database: sa.Engine) -> None:
    one, two = Candidate(database, "one"), Candidate(database, "two")
    assert (one.leads(), two.leads()) == (True, False)
    assert [one.leads(3) for _ in range(10)] == [True] * 10
    one.leadership.give_up()
    assert not one.leadership.leads()
    assert two.leads(LIFE_SECONDS)
    assert [line["identity"] for line in two.log.of("leadership_won")] == ["two"]


def test_who_cannot_renew_stops_before_another_may_begin(database: sa.Engine) -> None:
    one = Candidate(database, "one")
    assert one.leads()
    one.leadership._engine = open_database("postgresql://nobody@127.0.0.1:1/none")
    assert one.leads(LIFE_SECONDS * 0.6)
    assert not one.leads(LIFE_SECONDS * 0.1)
    assert one.log.of("leadership_not_renewed")


def test_a_dead_leader_is_followed_after_its_life(database: sa.Engine) -> None:
    short_seconds = 0.05
    one, two = Candidate(database, "one", short_seconds), Candidate(database, "two", short_seconds)
    assert one.leads()
    # SQLite goes by the process's clock, PostgreSQL by its own; both are waited for.
    two.clock.advance(1)
    with database.connect() as connection:
        if database.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_sleep(0.2)"))
    assert two.leads()
