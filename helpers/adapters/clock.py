"""The machine's own clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """`ports.clock.Clock` on the machine's time."""

    def now_at(self) -> datetime:
        """The current instant in UTC."""
        return datetime.now(UTC)

    def monotonic_seconds(self) -> float:
        """Seconds since some fixed instant."""
        return time.monotonic()

    def sleep_seconds(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)
