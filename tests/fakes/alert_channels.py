"""`ports.budget_alerts` in memory."""

from __future__ import annotations

from helpers.domain.cost.budget_alerts import BudgetAlert, SentAlert
from helpers.domain.cost.money import Month
from helpers.domain.errors import DependencyError


class FakeChannel:
    """Delivers, or fails with `error` as long as there is one."""

    def __init__(self, error: DependencyError | None = None) -> None:
        self.error = error
        self.delivered: list[BudgetAlert] = []

    def deliver(self, alert: BudgetAlert) -> str:
        if self.error is not None:
            raise self.error
        self.delivered.append(alert)
        return "took it"


class FakeMemory:
    """Append-only rows."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, SentAlert]] = []

    def sent(self, channel: str, project: str, month: Month) -> tuple[SentAlert, ...]:
        return tuple(one for name, one in self.rows if (name, one.project, one.month) == (channel, project, month))

    def remember(self, channel: str, alerts: tuple[SentAlert, ...]) -> None:
        self.rows += [(channel, one) for one in alerts]
