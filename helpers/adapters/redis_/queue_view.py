"""BullMQ's queues, read: counts in one transaction, events from their streams. Nothing is written.

Keys `<prefix>:<queue>:` `meta` (hash; `paused`, `version`), `wait` and `paused` (lists), `active`
(list), `prioritized` and `delayed` (sorted sets), `events` (stream, trimmed to about 10000).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from pydantic import ValidationError

from helpers.adapters.redis_.board import mark_key
from helpers.adapters.redis_.connection import ANSWER_SECONDS, answered, connect, rows
from helpers.domain.lanes.facts import PauseMark, QueueFacts
from helpers.ports.log import Log
from helpers.ports.queues import QueueEvent

_LONGEST_WAIT_SECONDS = 5.0
_EVENTS_AT_ONCE = 2000
_COMMANDS_COUNT = 9


class RedisQueues:
    """`ports.queues.QueueView` for the queues given, and no others."""

    def __init__(
        self,
        url: str,
        prefix: str,
        queues: Sequence[str],
        log: Log,
        *,
        longest_wait_seconds: float = _LONGEST_WAIT_SECONDS,
    ) -> None:
        self._client = connect(url)
        self._longest_wait_seconds = min(longest_wait_seconds, _LONGEST_WAIT_SECONDS)
        # Blocking reads have a connection of their own, whose bound leaves room for the wait and no more: a
        # network that stalled is noticed by it.
        self._blocking = connect(url, answer_seconds=self._longest_wait_seconds + ANSWER_SECONDS)
        self._prefix = prefix
        self._queues = tuple(queues)
        self._log = log
        self._positions: dict[str, str] = {}
        self._bad_marks: set[str] = set()
        self._versions: dict[str, str] = {}

    def snapshot(self) -> Mapping[str, QueueFacts]:
        """All queues at one instant (MULTI).

        Raises:
            DependencyError: Redis did not answer.
        """
        with answered("reading the queues"):
            pipeline = self._client.pipeline(transaction=True)
            for queue in self._queues:
                self._ask(pipeline, queue)
            found = rows(pipeline.execute())
        return {
            queue: self._facts(queue, found[index * _COMMANDS_COUNT : (index + 1) * _COMMANDS_COUNT])
            for index, queue in enumerate(self._queues)
        }

    def wait(self, timeout_seconds: float) -> tuple[QueueEvent, ...]:
        """New events, since `start_over`.

        Raises:
            DependencyError: Redis did not answer. The positions are kept: nothing is skipped.
        """
        if not self._queues:
            time.sleep(min(timeout_seconds, self._longest_wait_seconds))
            return ()
        with answered("reading events"):
            bounded_ms = max(1, int(min(timeout_seconds, self._longest_wait_seconds) * 1000))
            positions: dict[Any, Any] = dict(self._positions)
            found = self._blocking.xread(positions, count=_EVENTS_AT_ONCE, block=bounded_ms)
        events: list[QueueEvent] = []
        for stream, entries in _streams(found):
            queue = stream[len(self._prefix) + 1 : -len(":events")]
            for entry, fields in entries:
                self._positions[stream] = entry
                events.append(
                    QueueEvent(queue, fields.get("event", ""), int(entry.partition("-")[0]), fields.get("jobId", ""))
                )
        return tuple(events)

    def start_over(self) -> None:
        """The streams may be others now (a flush, a restart): begin at their ends.

        Raises:
            DependencyError: Redis did not answer.
        """
        with answered("reading where the events end"):
            self._positions = {self._key(queue, "events"): self._end_of(queue) for queue in self._queues}

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()
        self._blocking.close()

    def _ask(self, pipeline: redis.client.Pipeline, queue: str) -> None:
        pipeline.hmget(self._key(queue, "meta"), ["paused", "version"])
        pipeline.llen(self._key(queue, "wait"))
        pipeline.lindex(self._key(queue, "wait"), -1)
        pipeline.llen(self._key(queue, "paused"))
        pipeline.lindex(self._key(queue, "paused"), -1)
        pipeline.zcard(self._key(queue, "prioritized"))
        pipeline.llen(self._key(queue, "active"))
        pipeline.zcard(self._key(queue, "delayed"))
        pipeline.get(mark_key(queue))

    def _facts(self, queue: str, found: Sequence[Any]) -> QueueFacts:
        (paused, version), wait, last_wait, held, last_held, prioritized, active, delayed, mark = found
        # An application writes its version when it opens the queue: after a flush it is still the same one.
        version = self._versions[queue] = str(version or self._versions.get(queue, ""))
        return QueueFacts(
            queue=queue,
            paused=paused is not None,
            wait_count=_jobs(wait, last_wait),
            paused_count=_jobs(held, last_held),
            prioritized_count=int(prioritized),
            active_count=int(active),
            delayed_count=int(delayed),
            version=version,
            mark=self._mark(queue, mark),
        )

    def _mark(self, queue: str, text: str | None) -> PauseMark | None:
        if text is None:
            return None
        try:
            return PauseMark.model_validate_json(text)
        except ValidationError as error:
            # Without a readable mark the pause is taken for somebody else's, and stays.
            if queue not in self._bad_marks:
                self._bad_marks.add(queue)
                self._log.error("mark_unreadable", queue=queue, key=mark_key(queue), reason=str(error))
            return None

    def _end_of(self, queue: str) -> str:
        newest = _entries(self._client.xrevrange(self._key(queue, "events"), count=1))
        return newest[0][0] if newest else "0-0"

    def _key(self, queue: str, part: str) -> str:
        return f"{self._prefix}:{queue}:{part}"


def _jobs(count: Any, last: str | None) -> int:
    # BullMQ 4 wakes its workers by an entry `0:<time>` at the end of an otherwise empty list: no job.
    return int(count) - int(str(last or "").startswith("0:"))


def _streams(found: Any) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """XREAD's answer in one form: RESP2 gives a list of pairs, RESP3 a mapping with one more level."""
    pairs = found.items() if isinstance(found, Mapping) else (found or [])
    return [(str(stream), _entries(entries)) for stream, entries in pairs]


def _entries(found: Any) -> list[tuple[str, dict[str, str]]]:
    flat = (
        found[0]
        if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], list | tuple)
        else found
    )
    return [(str(entry), dict(fields or {})) for entry, fields in flat]
