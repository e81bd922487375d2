"""Telling people about budgets: decided for each channel, delivered, and remembered only then.

A channel that is down is tried again at the next look and holds up no other. Whoever dies between
delivering and remembering sends one message twice; the other order would lose one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from helpers.domain.cost.budget_alerts import BudgetAlert, decide
from helpers.domain.cost.money import Cost, Month
from helpers.domain.errors import DependencyError
from helpers.ports.budget_alerts import AlertChannel, AlertMemory


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message. `outcome`: delivered, failed, dry_run."""

    channel: str
    alert: BudgetAlert
    outcome: str
    text: str


class BudgetAlerting:
    """Looks at one project after the other; one leader at a time does."""

    def __init__(self, channels: Mapping[str, AlertChannel], memory: AlertMemory, *, dry_run: bool) -> None:
        self._channels = channels
        self._memory = memory
        self._dry_run = dry_run

    def look(
        self,
        project: str,
        month: Month,
        budget_usd: Decimal | None,
        cost: Cost,
        *,
        without: frozenset[str] = frozenset(),
    ) -> tuple[Delivery, ...]:
        """Sends what is due about one project and month, by every channel but those in `without`."""
        names = sorted(self._channels.keys() - without)
        found = (self._tell(name, project, month, budget_usd, cost) for name in names)
        return tuple(one for one in found if one is not None)

    def _tell(
        self, channel: str, project: str, month: Month, budget_usd: Decimal | None, cost: Cost
    ) -> Delivery | None:
        decision = decide(project, month, budget_usd, cost, self._memory.sent(channel, project, month))
        if decision.send is None:
            return None
        if self._dry_run:
            return Delivery(channel, decision.send, "dry_run", "would be sent")
        try:
            text = self._channels[channel].deliver(decision.send)
        except DependencyError as error:
            return Delivery(channel, decision.send, "failed", str(error))
        self._memory.remember(channel, decision.remember)
        return Delivery(channel, decision.send, "delivered", text)
