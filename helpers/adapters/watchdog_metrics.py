"""The watchdog's metrics for Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime

import prometheus_client as prometheus

from helpers.domain.memory import mib_to_bytes
from helpers.domain.watchdog.decisions import CardState, Reason

_PASS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
_CARD = ["node", "gpu", "uuid"]


class PrometheusWatchdogMetrics:
    """`ports.watchdog_metrics.WatchdogMetrics`. Reasons and outcomes are closed sets; all of them begin at 0."""

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        self._leader = _gauge(registry, "leader", "Whether this process may act.")
        self._leader.set(0)
        self._dry_run = _gauge(registry, "dry_run", "Whether a tenant is only watched.", ["tenant"])
        self._last_pass = _gauge(
            registry, "last_pass_timestamp_seconds", "When the last pass over all cards ended; 0: none yet."
        )
        self._seconds = prometheus.Histogram(
            "gpumem_watchdog_pass_seconds", "How long a pass takes.", buckets=_PASS_BUCKETS, registry=registry
        )
        self._decisions = _counter(registry, "decisions", "Verdicts and notes of all passes, by reason.", ["reason"])
        for reason in Reason:
            self._decisions.labels(reason=reason.value)
        self._recycles = _counter(
            registry, "recycles", "Acts that ended; dry_run: would have been.", ["tenant", "outcome"]
        )
        self._freed = _counter(registry, "freed_bytes", "Memory that acts were seen to give back.", ["tenant"])
        self._scrapes = _counter(registry, "scrapes", "Exporters asked, by whether they gave samples.", ["outcome"])
        for outcome in ("answered", "failed"):
            self._scrapes.labels(outcome=outcome)
        self._free = _gauge(registry, "card_free_bytes", "Free memory as the pass saw it; absent: unknown.", _CARD)
        self._floor = _gauge(registry, "card_floor_bytes", "Free memory below which there is pressure.", _CARD)
        self._known: set[tuple[str, str, str]] = set()

    def leads(self, leads: bool) -> None:
        """Shows it."""
        self._leader.set(int(leads))

    def dry_runs(self, by_tenant: Mapping[str, bool]) -> None:
        """Shows each tenant's."""
        for tenant, dry_run in by_tenant.items():
            self._dry_run.labels(tenant=tenant).set(int(dry_run))

    def scraped(self, answered_count: int, failed_count: int) -> None:
        """Counts one round."""
        self._scrapes.labels(outcome="answered").inc(answered_count)
        self._scrapes.labels(outcome="failed").inc(failed_count)

    def decided(self, reason: Reason) -> None:
        """Counts it."""
        self._decisions.labels(reason=reason.value).inc()

    def cards(self, cards: Collection[CardState]) -> None:
        """Shows each card, and ends the series of those that are gone."""
        now = {(card.node, card.gpu, card.uuid): card for card in cards}
        for gone in self._known - now.keys():
            _remove(self._free, gone)
            _remove(self._floor, gone)
        for labels, card in now.items():
            self._floor.labels(*labels).set(mib_to_bytes(card.floor_mib))
            if card.free_mib is None:
                _remove(self._free, labels)
            else:
                self._free.labels(*labels).set(mib_to_bytes(card.free_mib))
        self._known = set(now)

    def recycled(self, subject: str, outcome: str, freed_mib: int | None) -> None:
        """Counts one act, and what it gave back where that was measured."""
        self._recycles.labels(tenant=subject, outcome=outcome).inc()
        if freed_mib:
            self._freed.labels(tenant=subject).inc(mib_to_bytes(freed_mib))

    def passed(self, at: datetime, seconds: float) -> None:
        """Remembers the instant and the span."""
        self._last_pass.set(at.timestamp())
        self._seconds.observe(seconds)


def _gauge(
    registry: prometheus.CollectorRegistry, name: str, text: str, labels: Collection[str] = ()
) -> prometheus.Gauge:
    return prometheus.Gauge(f"gpumem_watchdog_{name}", text, list(labels), registry=registry)


def _counter(
    registry: prometheus.CollectorRegistry, name: str, text: str, labels: Collection[str] = ()
) -> prometheus.Counter:
    return prometheus.Counter(f"gpumem_watchdog_{name}", text, list(labels), registry=registry)


def _remove(gauge: prometheus.Gauge, labels: tuple[str, str, str]) -> None:
    with contextlib.suppress(KeyError):  # it never had one
        gauge.remove(*labels)
