"""The book of leases in Redis: three keys, changed in one step each.

`gpumem:lease:book` holds every lease (hash, id to JSON), `gpumem:lease:version` which state of the book that
is, `gpumem:lease:seen` the last sign of life of each (hash, id to `<milliseconds>:<used MiB>`). The book is
written only over the version that was read, so that two who write at once cannot both have their way. Signs
of life change no version: there are many of them, and each says something about one lease only.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import ValidationError

from helpers.adapters.redis_.board import ROOT
from helpers.adapters.redis_.connection import answered, connect, rows
from helpers.domain.leases.book import Book, Lease
from helpers.ports.leases import StoredBook
from helpers.ports.log import Log

BOOK_KEY, VERSION_KEY, SEEN_KEY = f"{ROOT}lease:book", f"{ROOT}lease:version", f"{ROOT}lease:seen"

_COMMIT = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local at, count = 4, tonumber(ARGV[3])
for _ = 1, count do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for index = at, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[index])
  redis.call('HDEL', KEYS[3], ARGV[index])
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_RENEW = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', ms) .. ':' .. ARGV[2])
return 1
"""


class RedisLeases:
    """`ports.leases.LeaseStore`. Its clock is Redis's, which all replicas share."""

    def __init__(self, url: str, log: Log) -> None:
        self._client = connect(url)
        self._log = log
        self._known: tuple[str, dict[str, Lease]] | None = None
        self._texts: dict[str, tuple[str, Lease]] = {}
        self._bad: set[str] = set()

    def read(self) -> StoredBook:
        """Asks for version and signs of life; the leases are read again only in another version."""
        with answered("reading the leases"):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.time()
            pipeline.get(VERSION_KEY)
            pipeline.hgetall(SEEN_KEY)
            (seconds, microseconds), version, seen = rows(pipeline.execute())
            version, known = str(version or ""), self._known
            if known is None or known[0] != version:
                known = self._known = self._leases()
        book = Book(known[1]).seen({key: _sign(text) for key, text in seen.items()})
        # With the signs in it, so that the next reading has only the newer ones to enter.
        self._known = (known[0], dict(book.leases))
        now_at = datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)
        return StoredBook(known[0], book, now_at)

    def commit(self, version: str, changed: Iterable[Lease], dropped: Iterable[str] = ()) -> bool:
        """One script. What is written is known then, and not read again."""
        leases, gone, next_version = {lease.id: lease for lease in changed}, list(dropped), uuid.uuid4().hex
        texts = {key: lease.model_dump_json() for key, lease in leases.items()}
        pairs = [part for pair in texts.items() for part in pair]
        arguments = [version, next_version, str(len(leases)), *pairs, *gone]
        with answered("writing the leases"):
            done = self._client.eval(_COMMIT, 3, VERSION_KEY, BOOK_KEY, SEEN_KEY, *arguments)
        if int(str(done)) != 1:
            return False
        if self._known is not None and self._known[0] == version:
            kept = {key: lease for key, lease in self._known[1].items() if key not in gone}
            self._known = (next_version, kept | leases)
            self._texts |= {key: (text, leases[key]) for key, text in texts.items()}
        return True

    def renew(self, lease_id: str, used_mib: int | None) -> bool:
        """One script."""
        used = "" if used_mib is None else str(used_mib)
        with answered(f"renewing the lease {lease_id}"):
            done = self._client.eval(_RENEW, 2, BOOK_KEY, SEEN_KEY, lease_id, used)
        return int(str(done)) == 1

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()

    def _leases(self) -> tuple[str, dict[str, Lease]]:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.get(VERSION_KEY)
        pipeline.hgetall(BOOK_KEY)
        version, found = rows(pipeline.execute())
        leases = {key: lease for key, text in found.items() if (lease := self._lease(key, text)) is not None}
        self._texts = {key: (found[key], lease) for key, lease in leases.items()}
        return str(version or ""), leases

    def _lease(self, key: str, text: str) -> Lease | None:
        before = self._texts.get(key)
        if before is not None and before[0] == text:
            return before[1]  # most of a changed book is as it was
        try:
            return Lease.model_validate_json(text)
        except ValidationError as error:
            # Not ours to take away. Its memory, if it holds any, is still missing in what is measured free.
            if key not in self._bad:
                self._bad.add(key)
                self._log.error("lease_unreadable", lease=key, key=BOOK_KEY, reason=str(error))
            return None


def _sign(text: str) -> tuple[datetime, int | None]:
    milliseconds, _, used = text.partition(":")
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC), int(used) if used else None
