"""The leader's look at every project's spending, and the messages that are due about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

from helpers.domain.cost.money import Month
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.clock import Clock
from helpers.ports.job_store import JobStore
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.manager_metrics import ManagerMetrics
from helpers.services.budget_alerts import BudgetAlerting, Delivery
from helpers.services.manager_money import Purse, month_cost

LOOK_SECONDS = 60.0
_STOP_LOOK_SECONDS = 0.5


class BudgetWatch:
    """In a thread of its own: a mail server that is slow keeps no job waiting."""

    def __init__(
        self,
        store: JobStore,
        purse: Purse,
        settings: ManagerSettings,
        alerting: BudgetAlerting,
        leadership: Leadership,
        metrics: ManagerMetrics,
        clock: Clock,
        log: Log,
    ) -> None:
        self._store = store
        self._purse = purse
        self._budgets_usd = settings.budgets_usd()
        self._alerting = alerting
        self._leadership = leadership
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._announced: set[tuple[str, str, Month, Decimal]] = set()

    def run(self, stop: Callable[[], bool]) -> None:
        """Until it is told to stop. A database that does not answer is asked again at the next look."""
        due_seconds = self._clock.monotonic_seconds()
        while not stop():
            if self._clock.monotonic_seconds() >= due_seconds:
                try:
                    self.look(stop)
                except DependencyError as error:
                    self._log.warning("budgets_not_looked_at", reason=str(error))
                due_seconds = self._clock.monotonic_seconds() + LOOK_SECONDS
            self._clock.sleep_seconds(_STOP_LOOK_SECONDS)

    def look(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Sends what is due; only while this process leads, and each message by each channel once.

        A channel that failed is not tried for further projects in this look: each try may take its whole time.

        Raises:
            DependencyError: the database does not answer.
        """
        failed: Counter[str] = Counter()
        for project, budget_usd in sorted(self._budgets_usd.items()):
            if stop() or not self._leadership.leads():
                break
            now_at = self._clock.now_at()
            cost = month_cost(self._store, self._purse, project, now_at)
            for one in self._alerting.look(project, Month.of(now_at), budget_usd, cost, without=frozenset(failed)):
                self._tell(one)
                failed[one.channel] += one.outcome == "failed"
            failed += Counter()  # drops the zeros
        self._metrics.alerts_failing(frozenset(failed))

    def _tell(self, one: Delivery) -> None:
        alert = one.alert
        key = (one.channel, alert.project, alert.month, alert.threshold_ratio)
        if one.outcome == "dry_run":
            if key in self._announced:
                return  # nothing is remembered in a dry run, and the log needs it once
            self._announced.add(key)
        self._metrics.alerted(one.channel, one.outcome)
        say = self._log.warning if one.outcome == "failed" else self._log.info
        say(
            f"budget_alert_{one.outcome}", channel=one.channel, namespace=alert.project, month=str(alert.month),
            threshold_ratio=float(alert.threshold_ratio), spent_usd=float(alert.spent_usd), reason=one.text,
        )  # fmt: skip
