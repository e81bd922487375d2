"""Looks as JSON Lines in a file, bounded: when it is full it becomes FILE.1 and a new one begins."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from helpers.domain.errors import InputError
from helpers.domain.watchdog.facts import PodFacts
from helpers.domain.watchdog.trace import Frame, to_lines
from helpers.ports.log import Log

DEFAULT_LIMIT_MIB = 64


class TraceFile:
    """`ports.trace_recorder.TraceRecorder`; takes at most twice `limit_bytes`.

    Each file can be read alone: its first line names the pods, and time only goes forward in it.
    """

    def __init__(self, path: Path, log: Log, *, limit_bytes: int, interval_seconds: float = 0.0) -> None:
        """Opens `path` for appending; looks closer together than `interval_seconds` are left out.

        Raises:
            InputError: it cannot be written.
        """
        self._path = path
        self._log = log
        self._limit_bytes = limit_bytes
        self._interval_seconds = interval_seconds
        self._last_at: datetime | None = None
        self._pods: tuple[PodFacts, ...] | None = None
        try:
            with path.open("a"):
                pass
            # What another run left may end later than this clock shows: it stays whole as FILE.1.
            if path.stat().st_size:
                self._rotate()
        except OSError as error:
            raise InputError(f"trace {path}: {error.strerror or error}. Give a file that can be written.") from error

    def record(self, frame: Frame) -> None:
        """Adds one look; a full disk is said once a look and hurts nobody else."""
        if self._last_at is not None:
            since_seconds = (frame.at - self._last_at).total_seconds()
            if 0 <= since_seconds < self._interval_seconds:
                return
        try:
            self._append(frame)
        except OSError as error:
            self._log.warning("trace_not_written", path=str(self._path), reason=str(error))

    def _append(self, frame: Frame) -> None:
        if self._last_at is not None and frame.at <= self._last_at:
            self._rotate()
        line = self._line(frame)
        if self._path.exists() and self._path.stat().st_size + len(line) > self._limit_bytes:
            self._rotate()
            line = self._line(frame)
        with self._path.open("a") as file:
            file.write(line)
        self._last_at, self._pods = frame.at, frame.pods

    def _line(self, frame: Frame) -> str:
        if frame.pods != self._pods:
            return to_lines([frame])
        # The domain leaves pods out where they are those of the look before.
        before = Frame(self._last_at or frame.at, (), frame.pods)
        return to_lines([before, frame]).split("\n", 1)[1]

    def _rotate(self) -> None:
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._last_at = self._pods = None
