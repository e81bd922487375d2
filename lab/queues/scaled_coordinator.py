"""The coordinator on a clock that runs faster: a day in a minute. Only its wall clock; settling takes real time.

python -m lab.queues.scaled_coordinator SETTINGS.json START(ISO) AT(seconds since the epoch) SPEED
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from helpers.adapters.clock import SystemClock
from helpers.apps.coordinator import RunSettings, read_coordinator_settings, run_coordinator


class ScaledClock(SystemClock):
    """At the real instant `at_seconds` it shows `start`, and from there on it goes `speed` times as fast."""

    def __init__(self, start: datetime, at_seconds: float, speed: float) -> None:
        self._start = start
        self._at_seconds = at_seconds
        self._speed = speed

    def now_at(self) -> datetime:
        """The scaled instant."""
        return self._start + timedelta(seconds=(time.time() - self._at_seconds) * self._speed)

    def real_ms(self, at: datetime) -> float:
        """When, in milliseconds since the epoch, it shows `at`."""
        return 1000 * (self._at_seconds + (at - self._start).total_seconds() / self._speed)


def main() -> None:
    """Runs until SIGTERM."""
    document, start, at_seconds, speed = sys.argv[1:]
    clock = ScaledClock(datetime.fromisoformat(start).astimezone(UTC), float(at_seconds), float(speed))
    run_coordinator(read_coordinator_settings(Path(document)), RunSettings(address=""), None, clock=clock)


if __name__ == "__main__":
    main()
