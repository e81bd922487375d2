"""The last snapshot, kept as the text that a scrape gets."""

from __future__ import annotations

import threading

from helpers.domain.telemetry.exposition import exposition
from helpers.domain.telemetry.metrics import aged, families
from helpers.domain.telemetry.reading import Snapshot
from helpers.ports.clock import Clock

# Far above any round: a probe that fails restarts the process, which only a stuck one needs.
_UNHEALTHY_AFTER_SECONDS = 60.0


class Board:
    """Between the thread that samples and those that answer scrapes.

    Ages are measured on the monotonic clock, so a clock that is set neither freshens nor ages a sample.
    """

    def __init__(self, *, longest_age_seconds: float, version: str, clock: Clock) -> None:
        self._longest_age_seconds = longest_age_seconds
        self._version = version
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._text = b""
        self._published_seconds = clock.monotonic_seconds()

    def publish(self, snapshot: Snapshot) -> None:
        """Replaces what is served."""
        text = self._rendered(snapshot)
        with self._lock:
            self._snapshot, self._text, self._published_seconds = snapshot, text, self._clock.monotonic_seconds()

    def metrics(self) -> bytes:
        """The text of a scrape; empty before the first round, and without figures when they are too old."""
        with self._lock:
            snapshot, text = self._snapshot, self._text
            age_seconds = self._clock.monotonic_seconds() - self._published_seconds
        if snapshot is None or age_seconds <= self._longest_age_seconds:
            return text
        return self._rendered(aged(snapshot, age_seconds))

    def healthy(self) -> bool:
        """Whether rounds are still being made, whatever they find."""
        with self._lock:
            age_seconds = self._clock.monotonic_seconds() - self._published_seconds
        return age_seconds <= max(_UNHEALTHY_AFTER_SECONDS, 3 * self._longest_age_seconds)

    def _rendered(self, snapshot: Snapshot) -> bytes:
        return exposition(families(snapshot, version=self._version)).encode()
