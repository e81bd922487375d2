"""A manager without a cluster and without a network: real store and services, fake engine, clock and leadership."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.gpus import CardKind
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.limits import Sample
from helpers.domain.jobs.settings import ManagerSettings
from helpers.services.manager_jobs import JobDesk
from helpers.services.manager_loop import ManagerLoop, ManagerPorts
from helpers.services.manager_money import Purse
from helpers.services.manager_queue import QueueBoard
from tests.fakes.job_engine import FakeEngine
from tests.fakes.jobs import spec
from tests.fakes.outside import FakeClock, FakeLeadership, FakeLog

SETTINGS = ManagerSettings(
    projects=(
        Project(name="vision", gpu_quota_count=16),
        Project(name="text", weight=2.0),
        Project(name="ml-research"),
    ),
    resource="example.com/gpumem",
    label_prefix="gpumem.io",
)


class FakeManagerMetrics:
    """Remembers."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.waits: list[float] = []
        self.starts: list[float] = []
        self.recoveries: Counter[tuple[str, str]] = Counter()
        self.held_cards: Mapping[CardKind, float] = {}
        self.node_cards: Mapping[CardKind, int] = {}
        self.card_prices: Mapping[CardKind, Decimal] = {}
        self.acts: Counter[str] = Counter()
        self.counts: Mapping[tuple[str, str], int] = {}
        self.outbox_count = 0
        self.leading = False
        self.answers: Counter[tuple[str, int]] = Counter()
        self.longest_seconds: Mapping[str, float] = {}
        self.spent_usd: Mapping[str, Decimal] = {}
        self.alerts: Counter[tuple[str, str]] = Counter()
        self.failing_channels: frozenset[str] = frozenset()

    def leads(self, leads: bool) -> None:
        self.leading = leads

    def queue(self, counts: Mapping[tuple[str, str], int], outbox_count: int) -> None:
        self.counts, self.outbox_count = counts, outbox_count

    def reached(self, project_id: str, status: str) -> None:
        self.states[status] += 1

    def acted(self, act: str) -> None:
        self.acts[act] += 1

    def waited(self, priority: str, seconds: float) -> None:
        self.waits.append(seconds)

    def started(self, seconds: float) -> None:
        self.starts.append(seconds)

    def recovered(self, project_id: str, status: str) -> None:
        self.recoveries[project_id, status] += 1

    def cards(self, held: Mapping[CardKind, float], there: Mapping[CardKind, int]) -> None:
        self.held_cards, self.node_cards = held, there

    def prices(self, usd_per_hour: Mapping[CardKind, Decimal]) -> None:
        self.card_prices = usd_per_hour

    def waiting(self, longest_seconds: Mapping[str, float]) -> None:
        self.longest_seconds = longest_seconds

    def spent(self, spent_usd: Mapping[str, Decimal]) -> None:
        self.spent_usd = spent_usd

    def alerted(self, channel: str, outcome: str) -> None:
        self.alerts[channel, outcome] += 1

    def alerts_failing(self, channels: frozenset[str]) -> None:
        self.failing_channels = channels

    def turned(self, at_seconds: float, failed_count: int) -> None:
        pass

    def answered(self, route: str, code: int, seconds: float) -> None:
        self.answers[route, code] += 1


class FakeUtilisation:
    """`{job_id: samples}`."""

    def __init__(self) -> None:
        self.measured: dict[str, Sequence[Sample]] = {}

    def samples(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[Sample]]:
        return {job_id: self.measured[job_id] for job_id in job_ids if job_id in self.measured}


class ManagerBench:
    """All of it, on a database of its own."""

    def __init__(self, folder: Path, settings: ManagerSettings = SETTINGS, url: str = "") -> None:
        database = open_database(url or f"sqlite:///{folder}/jobs.db")
        migrate(database)
        self.settings = settings
        self.store = SqlJobStore(database)
        self.engine = FakeEngine()
        self.clock, self.log, self.leadership = FakeClock(), FakeLog(), FakeLeadership()
        self.engine.told_at = self.clock.now_at
        self.metrics, self.utilisation = FakeManagerMetrics(), FakeUtilisation()
        self.purse = Purse(settings.prices)
        self.numbers = 0
        self.desk = JobDesk(self.store, self.engine, settings, self.purse, self.clock, self._id)
        self.board = QueueBoard(self.store, self.engine, settings, self.clock, self.log)
        self.loop = self.new_loop()

    def new_loop(self) -> ManagerLoop:
        """Another process: what was only in memory is gone."""
        ports = ManagerPorts(
            self.store, self.engine, self.leadership, self.metrics, self.clock, self.log, self.utilisation
        )
        return ManagerLoop(ports, self.settings, self.purse, lambda: False)

    def submit(self, **changes: Any) -> str:
        """Submits a small job as alice; its id."""
        return self.desk.submit(spec(**changes), "alice").job.job_id

    def job(self, job_id: str) -> Job:
        """The job as it is kept."""
        found = self.store.job(job_id)
        assert found is not None
        return found

    def turn(self, seconds: float = 1.0) -> None:
        """One turn of the leader, so much later."""
        self.clock.advance(seconds)
        self.loop.turn()

    def history(self, job_id: str) -> list[str]:
        """What happened to it, in words."""
        found = self.store.events(
            [one.name for one in self.settings.projects], job_id=job_id, after_sequence=0, limit=99
        )
        return [event.kind for event in found]

    def _id(self) -> str:
        self.numbers += 1
        return f"gpu-job-{self.numbers}"
