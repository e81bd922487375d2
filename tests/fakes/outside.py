"""Time, logs, leadership and metrics that tests own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from helpers.ports.cluster import Manifest
from helpers.ports.events import EventType


class FakeClock:
    """Stands still until somebody sleeps or `advance`s it; `when_slept` is called after each sleep."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []
        self.when_slept: Callable[[], None] = lambda: None

    def now_at(self) -> datetime:
        return datetime(2026, 6, 2, 12, tzinfo=UTC) + timedelta(seconds=self.seconds - 1000.0)

    def monotonic_seconds(self) -> float:
        return self.seconds

    def sleep_seconds(self, seconds: float) -> None:
        assert seconds > 0, "a loop that does not wait"
        self.slept.append(seconds)
        self.advance(seconds)
        self.when_slept()

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "time does not go back"
        self.seconds += seconds


class FakeLog:
    """Remembers `(level, event, fields)`."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))

    def of(self, event: str) -> list[dict[str, object]]:
        """The fields of every line of that event."""
        return [fields for _, each, fields in self.lines if each == event]


class FakeEvents:
    """Remembers `(object, type, reason, message)`."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, str, str, str]] = []

    def record(self, regarding: Manifest, reason: str, message: str, *, event_type: EventType = "Normal") -> None:
        assert regarding["metadata"]["uid"], "an Event is about an object that was read"
        self.recorded.append((regarding["metadata"]["name"], event_type, reason, message))


class FakeLeadership:
    """Leads until told otherwise."""

    def __init__(self) -> None:
        self.leading = True

    def leads(self) -> bool:
        return self.leading


class FakeCapacityMetrics:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.asserts: list[tuple[str, str]] = []
        self.advertised_mib: dict[str, int] = {}
        self.succeeded_at: list[datetime] = []

    def asserted(self, node: str, outcome: str) -> None:
        self.asserts.append((node, outcome))

    def advertised(self, node: str, advertised_mib: int | None) -> None:
        if advertised_mib is None:
            self.advertised_mib.pop(node, None)
        else:
            self.advertised_mib[node] = advertised_mib

    def succeeded(self, at: datetime) -> None:
        self.succeeded_at.append(at)
