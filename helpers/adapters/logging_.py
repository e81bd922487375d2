"""Structured logs: one JSON object a line on stderr, in a fixed order of keys."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import TextIO

from helpers.domain.errors import CheckFailed, Forbidden, GpumemError
from helpers.ports.clock import Clock
from helpers.ports.log import Log

_LOCK = threading.Lock()


class JsonLog:
    """`ports.log.Log` for one component.

    Each line begins `ts level event component version dry_run`; the caller's fields follow in the
    order given. A value that JSON does not know is written as its text.
    """

    def __init__(
        self, component: str, *, version: str, dry_run: bool, clock: Clock, stream: TextIO | None = None
    ) -> None:
        self._component = component
        self._version = version
        self._dry_run = dry_run
        self._clock = clock
        self._stream = stream

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something needs a look; the work goes on."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        head = {
            "ts": self._clock.now_at().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "event": event,
            "component": self._component,
            "version": self._version,
            "dry_run": self._dry_run,
        }
        # The head wins: a field may not hide what every reader of the log rests on.
        line = json.dumps(head | {key: value for key, value in fields.items() if key not in head}, default=str)
        # Looked up at each write, so that a replaced stderr (a test's, a daemon's) is honoured.
        stream = self._stream if self._stream is not None else sys.stderr
        with _LOCK:  # threads share the stream, and a line must stay whole
            stream.write(line + "\n")
            stream.flush()


@contextlib.contextmanager
def failure_logged(log: Log) -> Iterator[None]:
    """Says in the log, too, why a run ends; the caller turns the error into an exit code."""
    try:
        yield
    except GpumemError as error:
        level = log.warning if isinstance(error, CheckFailed) and not isinstance(error, Forbidden) else log.error
        level("run_failed", reason=str(error), exit_code=int(error.exit_code))
        raise


@contextlib.contextmanager
def threads_log(log: Log) -> Iterator[None]:
    """A thread that dies of a mistake of ours says so in the log; who misses it is the app's to settle."""

    def note(arguments: threading.ExceptHookArgs) -> None:
        text = "".join(traceback.format_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback))
        log.error("unexpected", thread=arguments.thread.name if arguments.thread else "", reason=text)

    before, threading.excepthook = threading.excepthook, note
    try:
        yield
    finally:
        threading.excepthook = before
