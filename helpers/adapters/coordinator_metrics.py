"""The coordinator's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import prometheus_client as prometheus

from helpers.domain.lanes.decision import LaneReason, LaneVerdict

_REACTION_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
ACTS = ("pause", "resume", "forget", "refuse")


class PrometheusCoordinatorMetrics:
    """`ports.coordinator_metrics.CoordinatorMetrics`. Every series of a known lane and tenant begins at 0."""

    def __init__(
        self, registry: prometheus.CollectorRegistry, lanes: Sequence[str] = (), tenants: Sequence[str] = ()
    ) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> prometheus.Gauge:
            return prometheus.Gauge(f"gpumem_coordinator_{name}", text, list(labels), registry=registry)

        def counter(name: str, text: str, labels: Sequence[str]) -> prometheus.Counter:
            return prometheus.Counter(f"gpumem_coordinator_{name}", text, list(labels), registry=registry)

        self._leader = gauge("leader", "Whether this process may act.")
        self._open = gauge("lane_open", "Whether the lane may run.", ["lane"])
        self._closed = gauge("lane_closed", "1 for the reason why the lane is closed.", ["lane", "reason"])
        self._waiting = gauge("lane_waiting_jobs", "Jobs that could run if the lane were open.", ["lane"])
        self._active = gauge("lane_active_jobs", "Jobs that run.", ["lane"])
        self._demand = gauge(
            "lane_demand_jobs", "Jobs that run, or would if the lane's tenant were there with its memory.", ["lane"]
        )
        self._paused = gauge(
            "lane_paused_seconds", "How long jobs have waited for the closed lane; 0: none do.", ["lane"]
        )
        self._acts = counter("acts", "What was done to queues.", ["lane", "act", "outcome"])
        self._reaction = prometheus.Histogram(
            "gpumem_coordinator_reaction_seconds",
            "From a realtime job's start to the pause that it caused.",
            buckets=_REACTION_BUCKETS,
            registry=registry,
        )
        self._fallback = gauge("fallback_active", "Whether the tenant's card or server is away.", ["tenant"])
        self._unloads = counter("unloads", "Models asked out of the memory.", ["tenant", "outcome"])
        self._yields = counter(
            "yields", "Bursts of realtime work in which a lane was asked to yield.", ["lane", "outcome"]
        )
        self._last_pass = gauge("last_pass_timestamp_seconds", "When the last pass ended; 0: none yet.")
        self._answers = counter("passes", "Passes, by whether Redis answered.", ["outcome"])
        self._lanes = tuple(lanes)
        for lane in lanes:
            self._paused.labels(lane=lane).set(0)
            for act in ACTS:
                self._acts.labels(lane=lane, act=act, outcome="done")
                self._acts.labels(lane=lane, act=act, outcome="failed")
        for tenant in tenants:
            self._fallback.labels(tenant=tenant).set(0)

    def leads(self, leads: bool) -> None:
        """Shows it."""
        self._leader.set(int(leads))

    def lanes(self, verdicts: Sequence[LaneVerdict], paused_seconds: Mapping[str, float]) -> None:
        """Shows every lane."""
        for verdict in verdicts:
            lane = verdict.lane
            self._open.labels(lane=lane).set(int(verdict.open))
            for reason in LaneReason:
                if reason is not LaneReason.OPEN:
                    is_why = not verdict.open and verdict.reason is reason
                    self._closed.labels(lane=lane, reason=reason.value).set(int(is_why))
            self._waiting.labels(lane=lane).set(verdict.waiting_count)
            self._active.labels(lane=lane).set(verdict.active_count)
            self._paused.labels(lane=lane).set(paused_seconds.get(lane, 0.0))

    def demands(self, demands: Mapping[str, int]) -> None:
        """Shows them; what is not known is no series, and never 0."""
        self._demand.clear()
        for lane, jobs_count in demands.items():
            self._demand.labels(lane=lane).set(jobs_count)

    def stands_by(self) -> None:
        """Takes the lanes' series away; those that alerts watch go back to 0."""
        for gauge in (self._open, self._closed, self._waiting, self._active):
            gauge.clear()
        for lane in self._lanes:
            self._paused.labels(lane=lane).set(0)

    def acted(self, lane: str, act: str, outcome: str) -> None:
        """Counts it."""
        self._acts.labels(lane=lane, act=act, outcome=outcome).inc()

    def reacted(self, seconds: float) -> None:
        """Counts it."""
        self._reaction.observe(seconds)

    def engines(self, away: Mapping[str, bool]) -> None:
        """Shows each tenant's."""
        for tenant, is_away in away.items():
            self._fallback.labels(tenant=tenant).set(int(is_away))

    def unloaded(self, tenant: str, outcome: str) -> None:
        """Counts it."""
        self._unloads.labels(tenant=tenant, outcome=outcome).inc()

    def asked_to_yield(self, lane: str, outcome: str) -> None:
        """Counts it."""
        self._yields.labels(lane=lane, outcome=outcome).inc()

    def passed(self, at_seconds: float, answered: bool) -> None:
        """Remembers it."""
        self._answers.labels(outcome="answered" if answered else "silent").inc()
        if answered:
            self._last_pass.set(at_seconds)
