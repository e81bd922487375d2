"""A watch that never ends by itself: list, follow, reconnect, list again where the server forgot.

A thread reads the open connection and the caller takes from a queue, so that `stop` is asked several
times a second however quiet the cluster is (a blocked read cannot be interrupted and continued).
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import urllib3

from helpers.adapters.kubernetes_.connection import Connection
from helpers.adapters.kubernetes_.refusals import Gone, of_status, unreachable
from helpers.domain.errors import ClusterError, Forbidden, NotFound, Rejected
from helpers.ports.cluster import WatchEvent
from helpers.ports.log import Log

# The server ends each watch after this long and we continue where it was, so a connection that died
# without a word is noticed within the slack, too.
WINDOW_SECONDS = 60
WINDOW_SLACK_SECONDS = 10.0
STOP_ASKED_EVERY_SECONDS = 0.1
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
READER_BOUND_SECONDS = 5.0

_END = object()
_HOPELESS = (Forbidden, NotFound, Rejected)

Items = list[dict[str, Any]]


class Watch:
    """One watch of one kind."""

    def __init__(
        self,
        connection: Connection,
        *,
        subject: str,
        path: Callable[[], str],
        selectors: Mapping[str, str],
        list_all: Callable[[], tuple[Items, str]],
        trim: Callable[[dict[str, Any]], dict[str, Any]] | None,
        stop: Callable[[], bool],
        log: Log | None,
    ) -> None:
        self._connection = connection
        self._subject = subject
        self._path = path
        self._selectors = selectors
        self._trim = trim
        self._list_all = list_all
        self._stop = stop
        self._log = log
        self._version = ""
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def events(self) -> Iterator[WatchEvent]:
        """All events until `stop()`.

        Raises:
            ClusterError: What no retry mends: a missing permission, a kind that is not served.
        """
        backoff_seconds = FIRST_BACKOFF_SECONDS
        while not self._stop():
            try:
                if not self._version:
                    yield from self._relist()
                for event in self._follow():
                    backoff_seconds = FIRST_BACKOFF_SECONDS
                    yield event
            except _HOPELESS:
                raise
            except Gone:
                self._version = ""
            except ClusterError as error:
                if self._log:
                    self._log.warning("watch_interrupted", subject=self._subject, reason=str(error))
                self._pause(backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)

    def _relist(self) -> Iterator[WatchEvent]:
        items, self._version = self._list_all()
        before, self._known = self._known, {_key(item): item for item in items}
        for key in sorted(before.keys() - self._known.keys()):
            yield WatchEvent("DELETED", before[key])
        for item in items:
            yield WatchEvent("ADDED", item)

    def _follow(self) -> Iterator[WatchEvent]:
        for line in self._lines():
            try:
                raw = json.loads(line)
            except ValueError as error:  # a connection that was cut in the middle of a line
                raise unreachable(error, subject=self._subject, address=self._connection.address) from error
            found = raw["object"]
            if raw["type"] == "ERROR":
                raise of_status(
                    int(found.get("code", 0)),
                    str(found.get("message", found)),
                    subject=self._subject,
                    address=self._connection.address,
                )
            self._version = found["metadata"]["resourceVersion"]
            if raw["type"] != "BOOKMARK":
                yield self._remembered(raw["type"], self._trim(found) if self._trim else found)

    def _remembered(self, event_type: Literal["ADDED", "MODIFIED", "DELETED"], found: dict[str, Any]) -> WatchEvent:
        if event_type == "DELETED":
            self._known.pop(_key(found), None)
        else:
            self._known[_key(found)] = found
        return WatchEvent(event_type, found)

    def _lines(self) -> Iterator[bytes]:
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WINDOW_SECONDS),
            **self._selectors,
        }
        response = self._connection.stream(
            self._path(),
            subject=self._subject,
            query=query,
            silence_bound_seconds=WINDOW_SECONDS + WINDOW_SLACK_SECONDS,
        )
        lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(response, lines), name="watch-reader", daemon=True)
        reader.start()
        try:
            yield from self._taken(lines)
        finally:
            # Wakes the reader, which closing alone would not. Refused where the answer has ended by itself, or the
            # server has closed the connection just now.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                response.shutdown()
            reader.join(READER_BOUND_SECONDS)
            response.close()

    def _taken(self, lines: queue.SimpleQueue[Any]) -> Iterator[bytes]:
        while not self._stop():
            try:
                line = lines.get(timeout=STOP_ASKED_EVERY_SECONDS)
            except queue.Empty:
                continue
            if line is _END:
                return
            if isinstance(line, Exception):
                raise unreachable(line, subject=self._subject, address=self._connection.address) from line
            yield line

    def _pause(self, seconds: float) -> None:
        # Spread, so that every watcher of a restarted API server does not return in the same instant.
        until = time.monotonic() + seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        while time.monotonic() < until and not self._stop():
            time.sleep(min(STOP_ASKED_EVERY_SECONDS, seconds))


def _read(response: urllib3.BaseHTTPResponse, lines: queue.SimpleQueue[Any]) -> None:
    try:
        for line in response:
            if line.strip():
                lines.put(line)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        lines.put(error)
    else:
        lines.put(_END)


def _key(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])
