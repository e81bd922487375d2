"""What the watchdog counts. Amounts come in as MiB and leave as bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from helpers.domain.watchdog.decisions import CardState, Reason


class WatchdogMetrics(Protocol):
    """Figures of one watchdog process."""

    def leads(self, leads: bool) -> None:
        """Whether this process may act."""
        ...

    def dry_runs(self, by_tenant: Mapping[str, bool]) -> None:
        """Who is only watched."""
        ...

    def scraped(self, answered_count: int, failed_count: int) -> None:
        """Exporters that gave samples in one round, and those that gave none."""
        ...

    def decided(self, reason: Reason) -> None:
        """One verdict, or one note on a pod that was passed over."""
        ...

    def cards(self, cards: Collection[CardState]) -> None:
        """Every card that is known; the series of others end. An unknown free has no series."""
        ...

    def recycled(self, subject: str, outcome: str, freed_mib: int | None) -> None:
        """One act ended."""
        ...

    def passed(self, at: datetime, seconds: float) -> None:
        """One pass over all cards was finished."""
        ...
