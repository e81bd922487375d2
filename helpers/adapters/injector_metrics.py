"""The injector's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import prometheus_client as prometheus

# An answer takes a fraction of a millisecond; the API server waits two seconds for it.
_REVIEW_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0)


class PrometheusInjectorMetrics:
    """`ports.injector_metrics.InjectorMetrics`. Outcomes and acts are closed sets; all of them begin at 0."""

    def __init__(self, registry: prometheus.CollectorRegistry, *, outcomes: Sequence[str], acts: Sequence[str]) -> None:
        reviews = prometheus.Counter(
            "gpumem_injector_reviews", "Admission reviews, by what was answered.", ["outcome"], registry=registry
        )
        # Looked up once: a review should not pay for it.
        self._reviews = {outcome: reviews.labels(outcome=outcome) for outcome in outcomes}
        self._seconds = prometheus.Histogram(
            "gpumem_injector_review_seconds",
            "From a review's last byte to its answer.",
            buckets=_REVIEW_BUCKETS,
            registry=registry,
        )
        self._expiry = prometheus.Gauge(
            "gpumem_injector_certificate_expiry_timestamp_seconds",
            "When the certificate that is served, or its authority, ends, seconds since the epoch; 0: none is served.",
            registry=registry,
        )
        self._ready = prometheus.Gauge(
            "gpumem_injector_ready", "Whether the certificate that is served is valid now.", registry=registry
        )
        self._acts = prometheus.Counter(
            "gpumem_injector_certificate_acts", "What was done to the certificate.", ["act"], registry=registry
        )
        for act in acts:
            self._acts.labels(act=act)
        self._leader = prometheus.Gauge(
            "gpumem_injector_leader", "Whether this process may act on the certificate.", registry=registry
        )

    def ask_readiness(self, ready: Callable[[], bool]) -> None:
        """Asks `ready` at each scrape, for a certificate ends without anything happening; shows 0 until then."""
        self._ready.set_function(lambda: float(ready()))

    def reviewed(self, outcome: str, seconds: float) -> None:
        """Counts one answer."""
        self._reviews[outcome].inc()
        self._seconds.observe(seconds)

    def served(self, ends_at: datetime) -> None:
        """Shows the end."""
        self._expiry.set(ends_at.timestamp())

    def certificate_act(self, act: str) -> None:
        """Counts it."""
        self._acts.labels(act=act).inc()

    def leads(self, leads: bool) -> None:
        """Shows it."""
        self._leader.set(int(leads))
