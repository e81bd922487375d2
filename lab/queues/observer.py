"""What Redis says happened: both queues' event streams, read as they come (they are trimmed), in its own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

_AT_ONCE = 5000


@dataclass(frozen=True, order=True)
class Seen:
    """One event; `at_ms` and `number` are its id in the stream."""

    at_ms: int
    number: int
    queue: str
    event: str
    job: str


class Observer:
    """Reads in a thread of its own from when it was made."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._client: redis.Redis = redis.Redis.from_url(url, decode_responses=True)
        since_ms = int(time.time() * 1000)
        self._positions: dict[Any, Any] = {f"bull:{queue}:events": f"{since_ms}-0" for queue in queues}
        self._stopped = threading.Event()
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def seen(self, queue: str = "", event: str = "") -> list[Seen]:
        """In order; only those of `queue` and `event` where they are given."""
        every = sorted(self._seen)
        return [one for one in every if queue in ("", one.queue) and event in ("", one.event)]

    def _follow(self) -> None:
        while not self._stopped.is_set():
            answer: Any = self._client.xread(self._positions, count=_AT_ONCE, block=200)
            nested = isinstance(answer, dict)  # RESP3 has one more level
            for stream, entries in answer.items() if nested else answer or []:
                for entry, fields in entries[0] if nested else entries:
                    self._positions[stream] = entry
                    at_ms, _, number = entry.partition("-")
                    queue, event, job = stream.split(":")[1], fields.get("event", ""), fields.get("jobId", "")
                    self._seen.append(Seen(int(at_ms), int(number), queue, event, job))


@contextmanager
def observer(url: str, queues: Sequence[str]) -> Iterator[Observer]:
    """One that reads, and has stopped afterwards."""
    one = Observer(url, queues)
    try:
        yield one
    finally:
        one.stop()
