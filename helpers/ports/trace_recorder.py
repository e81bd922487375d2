"""Where looks are recorded for `replay`, `recommend` and `arm`."""

from __future__ import annotations

from typing import Protocol

from helpers.domain.watchdog.trace import Frame


class TraceRecorder(Protocol):
    """Keeps looks, bounded in size."""

    def record(self, frame: Frame) -> None:
        """Adds one look. What cannot be written is reported by the adapter and is never an error here."""
        ...
