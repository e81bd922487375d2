"""Events in the background: an API that is slow or away must not hold up whoever acts.

In the order in which they were given, and bounded: what does not fit is logged instead.
"""

from __future__ import annotations

import queue
import threading
import time

from helpers.ports.cluster import Manifest
from helpers.ports.events import Events, EventType
from helpers.ports.log import Log

MOST_WAITING_COUNT = 200
# What is still to be written when the process ends gets this long.
LAST_SECONDS = 5.0


class QueuedEvents:
    """`ports.events.Events` in front of another one; `with` runs its thread."""

    def __init__(self, events: Events, log: Log, *, most_waiting_count: int = MOST_WAITING_COUNT) -> None:
        self._events = events
        self._log = log
        self._queue: queue.Queue[tuple[Manifest, str, str, EventType] | None] = queue.Queue(most_waiting_count)
        self._thread = threading.Thread(target=self._write, name="events", daemon=True)

    def __enter__(self) -> QueuedEvents:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        until_seconds = time.monotonic() + LAST_SECONDS
        while not self._queue.empty() and time.monotonic() < until_seconds:
            time.sleep(0.02)
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return  # the thread ends with the process
        self._thread.join(max(0.1, until_seconds - time.monotonic()))

    def record(self, regarding: Manifest, reason: str, message: str, *, event_type: EventType = "Normal") -> None:
        """Puts the Event into the row."""
        try:
            self._queue.put_nowait((regarding, reason, message, event_type))
        except queue.Full:
            name = regarding["metadata"]["name"]
            self._log.warning("event_dropped", object=f"{regarding['kind']} {name}", reason=reason, text=message)

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            regarding, reason, message, event_type = item
            try:
                self._events.record(regarding, reason, message, event_type=event_type)
            except Exception as error:  # noqa: BLE001 - said; a row that nobody empties would lose all that follow
                name = f"{regarding['kind']} {regarding['metadata']['name']}"
                why = f"{type(error).__name__}: {error}"
                self._log.warning("event_not_written", object=name, text=message, reason=why)
