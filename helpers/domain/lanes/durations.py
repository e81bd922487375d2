"""How long a lane's jobs take, from its own events, so that who waits can be told how long."""

from __future__ import annotations

from collections import deque

_REMEMBERED_COUNT = 50
# Jobs that ended while nobody listened must not pile up.
_MOST_RUNNING_COUNT = 1000


class Durations:
    """Of one lane. All instants are Redis's milliseconds."""

    def __init__(self) -> None:
        self._began_ms: dict[str, int] = {}
        self._took_ms: deque[int] = deque(maxlen=_REMEMBERED_COUNT)

    def heard(self, name: str, job: str, at_ms: int) -> None:
        """One event of one of its queues."""
        if name == "active":
            if len(self._began_ms) >= _MOST_RUNNING_COUNT:
                self._began_ms.pop(next(iter(self._began_ms)))
            self._began_ms[job] = at_ms
        elif name in ("completed", "failed", "delayed", "stalled"):
            began_ms = self._began_ms.pop(job, None)
            if began_ms is not None and name == "completed":
                self._took_ms.append(at_ms - began_ms)

    def wait_seconds(self, now_ms: int) -> float | None:
        """How long the running jobs will take at most, if they take as long as nine of ten did; None: unknown."""
        if not self._began_ms:
            return 0.0
        if not self._took_ms:
            return None
        ordered = sorted(self._took_ms)
        usual_ms = ordered[int(0.9 * (len(ordered) - 1))]
        return max(0.0, max(began_ms + usual_ms - now_ms for began_ms in self._began_ms.values()) / 1000)
