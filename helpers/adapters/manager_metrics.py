"""The manager's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

import prometheus_client as prometheus

from helpers.domain.cost.price_table import CapacityType
from helpers.domain.jobs.gpus import CardKind
from helpers.domain.jobs.states import JobStatus

JOB_ACTS = ("made", "let_go", "held", "removed", "checkpoint_asked")
ALERT_OUTCOMES = ("delivered", "failed", "dry_run")
_WAIT_BUCKETS = (1.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)
_START_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0)
_REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class PrometheusManagerMetrics:
    """`ports.manager_metrics.ManagerMetrics`. Every series of a declared project begins at 0."""

    def __init__(
        self,
        registry: prometheus.CollectorRegistry,
        projects: Sequence[str] = (),
        budgets_usd: Mapping[str, Decimal] | None = None,
        alert_channels: Collection[str] = (),
    ) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> prometheus.Gauge:
            return prometheus.Gauge(f"gpumem_manager_{name}", text, list(labels), registry=registry)

        self._leader = gauge("leader", "Whether this process runs the loops.")
        self._jobs = gauge("jobs", "Jobs that are not over.", ["project", "status"])
        self._outbox = gauge("outbox_rows", "Acts that are committed and not done in the cluster yet.")
        self._last_turn = gauge("last_turn_timestamp_seconds", "When the last turn ended; 0: none yet.")
        self._unread = gauge(
            "project_unread",
            "Whether the project's objects cannot be read, so that its jobs are not followed.",
            ["project"],
        )
        self._failed = gauge("failed_acts", "Acts of the last turn that have to be tried again.")
        self._transitions = prometheus.Counter(
            "gpumem_manager_transitions", "States that jobs reached.", ["project", "status"], registry=registry
        )
        self._acts = prometheus.Counter(
            "gpumem_manager_engine_acts", "What was done to jobs' objects in the cluster.", ["act"], registry=registry
        )
        self._waits = prometheus.Histogram(
            "gpumem_manager_wait_seconds",
            "From the beginning of a wait to being let go.",
            ["priority"],
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self._starts = prometheus.Histogram(
            "gpumem_manager_time_to_gpu_seconds",
            "From being let go to having the GPUs: the scheduler's part, and the machine's where one is made.",
            buckets=_START_BUCKETS,
            registry=registry,
        )
        self._recoveries = prometheus.Counter(
            "gpumem_manager_recoveries",
            "Ends of jobs that had lost their place before.",
            ["project", "status"],
            registry=registry,
        )
        kinds = ["gpu", "capacity_type"]
        self._held_cards = gauge("held_cards", "Cards that jobs hold.", kinds)
        self._node_cards = gauge("node_cards", "Cards on nodes that are there, used or not.", kinds)
        self._card_price = gauge("card_usd_per_hour", "What one card costs an hour.", kinds)
        self._kinds: set[CardKind] = set()
        self._requests = prometheus.Histogram(
            "gpumem_manager_request_seconds",
            "Requests, by route and code.",
            ["route", "code"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._longest = gauge("longest_wait_seconds", "How long the oldest waiting job has waited.", ["project"])
        self._spent = gauge("spent_usd", "What the project has spent this month, UTC.", ["project"])
        budget = gauge("budget_usd", "What the project may spend in a month.", ["project"])
        for project, amount_usd in (budgets_usd or {}).items():
            budget.labels(project=project).set(float(amount_usd))
        self._alerts = prometheus.Counter(
            "gpumem_manager_budget_alerts", "Messages about budgets.", ["channel", "outcome"], registry=registry
        )
        self._alerts_failing = gauge(
            "budget_alerts_failing", "Whether a message about a budget is due and could not be delivered.", ["channel"]
        )
        for channel in alert_channels:
            self._alerts_failing.labels(channel=channel)
            for outcome in ALERT_OUTCOMES:
                self._alerts.labels(channel=channel, outcome=outcome)
        self._alert_channels = tuple(alert_channels)
        self._projects = tuple(projects)
        self._shown: set[tuple[str, str]] = set()
        for act in JOB_ACTS:
            self._acts.labels(act=act)
        for project in projects:
            self._unread.labels(project=project)
            for status in JobStatus:
                self._transitions.labels(project=project, status=status.value)
            for end in ("completed", "failed"):
                self._recoveries.labels(project=project, status=end)

    def leads(self, leads: bool) -> None:
        """Shows it."""
        self._leader.set(int(leads))

    def queue(self, counts: Mapping[tuple[str, str], int], outbox_count: int) -> None:
        """Shows every state of every project that has, or had, jobs in it."""
        for key in self._shown | set(counts):
            self._jobs.labels(project=key[0], status=key[1]).set(counts.get(key, 0))
        self._shown |= set(counts)
        self._outbox.set(outbox_count)

    def reached(self, project_id: str, status: str) -> None:
        """Counts it."""
        self._transitions.labels(project=project_id, status=status).inc()

    def acted(self, act: str) -> None:
        """Counts it."""
        self._acts.labels(act=act).inc()

    def waited(self, priority: str, seconds: float) -> None:
        """Counts it."""
        self._waits.labels(priority=priority).observe(seconds)

    def started(self, seconds: float) -> None:
        """Counts it."""
        self._starts.observe(seconds)

    def recovered(self, project_id: str, status: str) -> None:
        """Counts it."""
        self._recoveries.labels(project=project_id, status=status).inc()

    def cards(self, held: Mapping[CardKind, float], there: Mapping[CardKind, int]) -> None:
        """Shows it; 0 of a kind of which there were some."""
        for card in {gpu for gpu, _ in (*held, *there)}:
            self._kinds |= {(card, kind.value) for kind in CapacityType}  # a share needs both of them
        for gpu, kind in self._kinds:
            self._held_cards.labels(gpu=gpu, capacity_type=kind).set(held.get((gpu, kind), 0.0))
            self._node_cards.labels(gpu=gpu, capacity_type=kind).set(there.get((gpu, kind), 0))

    def prices(self, usd_per_hour: Mapping[CardKind, Decimal]) -> None:
        """Shows it."""
        for (gpu, kind), amount_usd in usd_per_hour.items():
            self._card_price.labels(gpu=gpu, capacity_type=kind).set(float(amount_usd))

    def waiting(self, longest_seconds: Mapping[str, float]) -> None:
        """Shows it; 0 for a project with none that waits."""
        for project in {*self._projects, *longest_seconds}:
            self._longest.labels(project=project).set(longest_seconds.get(project, 0.0))

    def spent(self, spent_usd: Mapping[str, Decimal]) -> None:
        """Shows it."""
        for project, amount_usd in spent_usd.items():
            self._spent.labels(project=project).set(float(amount_usd))

    def alerted(self, channel: str, outcome: str) -> None:
        """Counts it."""
        self._alerts.labels(channel=channel, outcome=outcome).inc()

    def alerts_failing(self, channels: frozenset[str]) -> None:
        """Shows it; 0 for a channel that takes what is sent."""
        for channel in self._alert_channels:
            self._alerts_failing.labels(channel=channel).set(int(channel in channels))

    def unread(self, projects: Collection[str]) -> None:
        """Shows it of every project."""
        for project in self._projects:
            self._unread.labels(project=project).set(int(project in projects))

    def turned(self, at_seconds: float, failed_count: int) -> None:
        """Remembers it."""
        self._last_turn.set(at_seconds)
        self._failed.set(failed_count)

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Counts it."""
        self._requests.labels(route=route, code=str(code)).observe(seconds)
