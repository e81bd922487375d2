"""For workers of BullMQ in Python: wait for the lane before a job's work begins.

    from bullmq import DelayedError, Worker
    guard = Lane(redis.asyncio.Redis(...), "batch", DelayedError)

    async def process(job, token):
        async with guard.begin(job, token):
            ...

The same as gpumem-lane.js does on Node, with the same script. It imports neither client: both are
the application's own, in its own versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

_BEGIN = (Path(__file__).parent / "begin.lua").read_text(encoding="utf-8")
_LONGEST_JOB_MS = 3600 * 1000
_POLL_SECONDS = 0.05
# The estate's defaults, for the time in which no coordinator says anything.
_AWAY_RETRY_SECONDS = 300.0
_RETRY_AFTER_SECONDS = 30.0
_UNAVAILABLE = "AI service temporarily unavailable"


class AsyncRedis(Protocol):
    """What is used of `redis.asyncio.Redis`."""

    def get(self, name: str) -> Awaitable[Any]: ...  # noqa: D102
    def llen(self, name: str) -> Awaitable[int]: ...  # noqa: D102
    def zrem(self, name: str, *values: str) -> Awaitable[int]: ...  # noqa: D102
    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]: ...  # noqa: D102


class Job(Protocol):
    """What is used of BullMQ's Job."""

    id: Any

    def moveToDelayed(self, timestamp: int, token: str) -> Awaitable[Any]: ...  # noqa: N802, D102 - BullMQ's name


class Unavailable(Exception):
    """The card is away, or a batch job still holds it; the message is for the user."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Lane:
    """One lane, for one worker.

    Args:
        redis: The application's own asyncio client, on the Redis of the queues.
        name: The lane's name in the estate.
        delayed_error: BullMQ's `DelayedError`, which tells the worker that the job went back.
        max_wait_seconds: How long a realtime job waits for batch jobs that still run.
        waiting: Told while it waits: the seconds that it will take, None where nobody knows.
        away: What the work raises when it meets a server that is not there, before the coordinator has
            seen it: a batch job then goes back with all its attempts, a realtime one is `Unavailable`.
    """

    def __init__(
        self,
        redis: AsyncRedis,
        name: str,
        delayed_error: type[Exception],
        *,
        max_wait_seconds: float = 120.0,
        waiting: Callable[[float | None], None] = lambda _: None,
        away: tuple[type[Exception], ...] = (),
    ) -> None:
        self._redis = redis
        self._key, self._running = f"gpumem:lane:{name}", f"gpumem:running:{name}"
        self._delayed_error = delayed_error
        self._max_wait_seconds = max_wait_seconds
        self._waiting = waiting
        self._away = away

    @contextlib.asynccontextmanager
    async def begin(self, job: Job, token: str) -> AsyncIterator[int]:
        """The job's work, begun at the yielded instant (Redis's clock, milliseconds).

        Raises:
            Unavailable: the card is away (realtime lanes).
            Exception: `delayed_error`, where the lane is closed or the server is away: the job is delayed, no
                attempt is used up.
        """
        document = await self._read()
        if document and "waits_for" in document:
            await self._wait_for_running(document)
        began, when, *_ = await self._redis.eval(_BEGIN, 2, self._key, self._running, str(job.id), _LONGEST_JOB_MS)
        if int(began) != 1:
            await job.moveToDelayed(int(time.time() * 1000) + int(when), token)
            raise self._delayed_error
        try:
            yield int(when)
        except self._away as error:
            raise await self._met_nobody(job, token) from error
        finally:
            await self._redis.zrem(self._running, str(job.id))

    async def _met_nobody(self, job: Job, token: str) -> Exception:
        document = await self._read() or {}
        if "waits_for" in document:
            return Unavailable(_UNAVAILABLE, document.get("retry_after_seconds") or _RETRY_AFTER_SECONDS)
        seconds = document.get("away_retry_seconds") or _AWAY_RETRY_SECONDS
        await job.moveToDelayed(int((time.time() + seconds) * 1000), token)
        return self._delayed_error()

    async def _read(self) -> dict[str, Any] | None:
        text = await self._redis.get(self._key)
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    async def _wait_for_running(self, document: dict[str, Any] | None) -> None:
        until = time.monotonic() + self._max_wait_seconds
        told: float | None = -1.0
        while document is not None:
            if not document["open"]:
                text = str(document.get("message") or document["reason"])
                raise Unavailable(text, document["retry_after_seconds"])
            lengths = [await self._redis.llen(f"{base}:active") for base in document["waits_for"]]
            if not any(lengths):
                return
            if time.monotonic() > until:
                raise Unavailable("a batch job still holds the card", document["retry_after_seconds"])
            if told != document["wait_seconds"]:
                told = document["wait_seconds"]
                self._waiting(told)
            await asyncio.sleep(_POLL_SECONDS)
            document = await self._read()
