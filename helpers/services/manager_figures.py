"""What Prometheus is told about waiting and money. Every replica tells the same: it comes from the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

from helpers.domain.cost.price_table import CapacityType
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.gpus import CardKind
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.states import JobStatus
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore
from helpers.ports.log import Log
from helpers.ports.manager_metrics import ManagerMetrics
from helpers.services.manager_money import Purse, month_cost
from helpers.services.manager_queue import QueueBoard

WAIT_SECONDS = 15.0
# A month's stretches are read for it.
MONEY_SECONDS = 60.0
_STOP_LOOK_SECONDS = 0.5


class ManagerFigures:
    """Looks again and again; a database that does not answer leaves the figures as they were."""

    def __init__(
        self,
        store: JobStore,
        board: QueueBoard,
        purse: Purse,
        settings: ManagerSettings,
        metrics: ManagerMetrics,
        clock: Clock,
        log: Log,
        engine: JobEngine | None = None,
    ) -> None:
        self._store = store
        self._board = board
        self._purse = purse
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._engine = engine

    def run(self, stop: Callable[[], bool]) -> None:
        """Until it is told to stop."""
        wait_due_seconds = money_due_seconds = self._clock.monotonic_seconds()
        while not stop():
            now_seconds = self._clock.monotonic_seconds()
            if now_seconds >= wait_due_seconds:
                self.look_at_waiting()
                self._safely("cards_not_seen", self.look_at_cards)
                wait_due_seconds = now_seconds + WAIT_SECONDS
            if now_seconds >= money_due_seconds:
                self._safely("spending_not_read", self.look_at_money)
                money_due_seconds = now_seconds + MONEY_SECONDS
            self._clock.sleep_seconds(_STOP_LOOK_SECONDS)

    def _safely(self, event: str, look: Callable[[], None]) -> None:
        try:
            look()
        except DependencyError as error:
            self._log.warning(event, reason=str(error))

    def look_at_waiting(self) -> None:
        """The oldest that waits of each project."""
        now_at = self._clock.now_at()
        longest_seconds: dict[str, float] = {}
        for job in self._board.last.order:
            waited_seconds = (now_at - job.queued_at).total_seconds()
            longest_seconds[job.project_id] = max(waited_seconds, longest_seconds.get(job.project_id, 0.0))
        self._metrics.waiting(longest_seconds)

    def look_at_cards(self) -> None:
        """Which cards are held, and which are there.

        Raises:
            DependencyError: the cluster does not answer.
        """
        held: defaultdict[CardKind, float] = defaultdict(float)
        for row in self._board.last.rows:
            if row.status is JobStatus.RUNNING:
                held[row.demand.pool.price_key, row.capacity] += self._purse.gpu_count(row.demand)
        there = self._engine.machines() if self._engine is not None else {}
        self._metrics.cards(held, there)
        now_at, history = self._clock.now_at(), self._purse.history
        kinds = [(gpu, kind.value) for gpu in sorted({gpu for gpu, _ in (*held, *there)}) for kind in CapacityType]
        points = {(gpu, kind): history.at(gpu, CapacityType(kind), now_at) for gpu, kind in kinds}
        self._metrics.prices({key: point.usd_per_gpu_hour for key, point in points.items() if point is not None})

    def look_at_money(self) -> None:
        """What each project has spent this month.

        Raises:
            DependencyError: the database does not answer.
        """
        now_at = self._clock.now_at()
        spent_usd: dict[str, Decimal] = {}
        for project in self._settings.projects:
            spent_usd[project.name] = month_cost(self._store, self._purse, project.name, now_at).known_usd
        self._metrics.spent(spent_usd)
