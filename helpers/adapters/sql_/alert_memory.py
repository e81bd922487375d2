"""`ports.budget_alerts.AlertMemory` in the manager's database."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from helpers.adapters.sql_.connection import reading, writing
from helpers.adapters.sql_.tables import sent_alerts
from helpers.domain.cost.budget_alerts import SentAlert
from helpers.domain.cost.money import Month
from helpers.ports.clock import Clock

_PERCENT = 100


class SqlAlertMemory:
    """One row for each message and threshold."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def sent(self, channel: str, project: str, month: Month) -> tuple[SentAlert, ...]:
        """What was delivered."""
        mine = (
            (sent_alerts.c.channel == channel)
            & (sent_alerts.c.project_id == project)
            & (sent_alerts.c.month == str(month))
        )
        with reading(self._engine, "tell which budget alerts were sent") as connection:
            found = connection.execute(sa.select(sent_alerts).where(mine).order_by(sent_alerts.c.sequence)).mappings()
            return tuple(
                SentAlert(project, month, Decimal(row["threshold_percent"]) / _PERCENT, row["spent_usd"])
                for row in found
            )

    def remember(self, channel: str, alerts: tuple[SentAlert, ...]) -> None:
        """Adds to it."""
        now_at = self._clock.now_at()
        rows = [
            {
                "channel": channel,
                "project_id": one.project,
                "month": str(one.month),
                "threshold_percent": int(one.threshold_ratio * _PERCENT),
                "spent_usd": one.spent_usd,
                "sent_at": now_at,
            }
            for one in alerts
        ]
        if not rows:
            return
        with writing(self._engine, "remember that a budget alert was sent") as connection:
            connection.execute(sa.insert(sent_alerts).inline(), rows)
