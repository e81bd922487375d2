"""Time as services see it, so that tests own it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for what is measured."""

    def now_at(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def sleep_seconds(self, seconds: float) -> None:
        """Wait."""
        ...
