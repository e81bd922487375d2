"""The book in a real Redis: written over the version that was read or not at all, and read again as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from helpers.adapters.redis_.leases import BOOK_KEY, RedisLeases
from helpers.domain.errors import DependencyError
from lab.redis_server import RedisServer, redis_server
from tests.fakes.leases import wish
from tests.fakes.outside import FakeLog


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def store(box: RedisServer) -> Iterator[RedisLeases]:
    one = RedisLeases(box.url, FakeLog())
    yield one
    one.close()


def test_what_is_written_is_read_by_another_as_it_was(box: RedisServer, store: RedisLeases) -> None:
    lease = wish("run-0001", used_mib=5)
    empty = store.read()
    assert (empty.version, empty.book.leases) == ("", {})
    assert store.commit(empty.version, [lease, wish("run-0002")])
    other = RedisLeases(box.url, FakeLog())
    found = other.read()
    assert found.book.get("run-0001") == lease
    assert found == store.read().__class__(found.version, store.read().book, found.now_at)
    assert other.commit(found.version, [], ["run-0002"])
    assert set(store.read().book.leases) == {"run-0001"}
    other.close()


def test_what_was_made_from_an_old_book_is_not_written(box: RedisServer, store: RedisLeases) -> None:
    other = RedisLeases(box.url, FakeLog())
    mine, theirs = store.read(), other.read()
    assert other.commit(theirs.version, [wish("theirs-0")])
    assert not store.commit(mine.version, [wish("mine-000")])
    assert set(store.read().book.leases) == {"theirs-0"}
    other.close()


def test_a_flush_makes_every_version_an_old_one(box: RedisServer, store: RedisLeases) -> None:
    assert store.commit("", [wish("run-0001")])
    before = store.read()
    connection: redis.Redis = redis.Redis.from_url(box.url)
    connection.flushall()
    connection.close()
    assert not store.commit(before.version, [wish("run-0002")])
    assert store.read().book.leases == {}
    assert store.commit("", [wish("run-0002")])


def test_signs_of_life_are_dated_by_redis_and_change_no_version(store: RedisLeases) -> None:
    store.commit("", [wish("run-0001")])
    before = store.read()
    assert store.renew("run-0001", 700)
    assert not store.renew("run-0002", None)
    after = store.read()
    lease = after.book.leases["run-0001"]
    assert (after.version, lease.used_mib) == (before.version, 700)
    assert abs((after.now_at - lease.seen_at).total_seconds()) < 5
    assert store.renew("run-0001", None)
    assert store.read().book.leases["run-0001"].used_mib == 700, "what is not said is not taken back"
    assert store.commit(after.version, [], ["run-0001"])
    assert not store.renew("run-0001", None)


def test_a_lease_that_cannot_be_read_is_said_once_and_the_others_stay(box: RedisServer) -> None:
    log = FakeLog()
    store = RedisLeases(box.url, log)
    store.commit("", [wish("run-0001")])
    connection: redis.Redis = redis.Redis.from_url(box.url)
    connection.hset(BOOK_KEY, "run-0002", "{")
    connection.close()
    other = RedisLeases(box.url, log)
    for _ in range(2):
        assert set(other.read().book.leases) == {"run-0001"}
    assert [line["lease"] for line in log.of("lease_unreadable")] == ["run-0002"]
    store.close()
    other.close()


def test_a_redis_that_does_not_answer_is_a_dependency(box: RedisServer, store: RedisLeases) -> None:
    box.kill()
    with pytest.raises(DependencyError):
        store.read()
    with pytest.raises(DependencyError):
        store.commit("", [wish("run-0001")])
    with pytest.raises(DependencyError):
        store.renew("run-0001", None)
