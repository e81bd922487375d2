"""Where budget alerts go, and the memory of those that went."""

from __future__ import annotations

from typing import Protocol

from helpers.domain.cost.budget_alerts import BudgetAlert, SentAlert
from helpers.domain.cost.money import Month


class AlertChannel(Protocol):
    """One place where people read messages."""

    def deliver(self, alert: BudgetAlert) -> str:
        """Delivers the message and says how that went, in a few words.

        Raises:
            DependencyError: not delivered; to be tried again.
        """
        ...


class AlertMemory(Protocol):
    """What each channel has delivered; append-only."""

    def sent(self, channel: str, project: str, month: Month) -> tuple[SentAlert, ...]:
        """What `channel` has delivered about the project and month."""
        ...

    def remember(self, channel: str, alerts: tuple[SentAlert, ...]) -> None:
        """Adds to it."""
        ...
