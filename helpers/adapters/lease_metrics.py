"""The leases' metrics for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import prometheus_client as prometheus

from helpers.domain.leases.book import Book, End, Lease
from helpers.domain.leases.overdue import CAUSES, Overdue
from helpers.domain.memory import mib_to_bytes

_WAIT_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)


class PrometheusLeaseMetrics:
    """`ports.leases.LeaseMetrics`. Every series of a known pair of tenant and lane begins at 0."""

    def __init__(self, registry: prometheus.CollectorRegistry, pairs: Sequence[tuple[str, str]] = ()) -> None:
        def gauge(name: str, text: str, *labels: str) -> prometheus.Gauge:
            return prometheus.Gauge(f"gpumem_lease_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"gpumem_lease_{name}", text, labels, registry=registry)

        self._pairs = tuple(pairs)
        self._granted = gauge("granted_bytes", "GPU memory that is leased.", "tenant", "lane")
        self._held = gauge("held_leases", "Leases that are held.", "tenant", "lane")
        self._waiting = gauge("waiting_requests", "Requests that wait.", "tenant", "lane")
        self._oldest = gauge("oldest_wait_seconds", "How long the oldest request waits; 0: none.", "tenant", "lane")
        self._overdue = gauge(
            "overdue_seconds",
            "How long a lease is over whose memory is still held, or a request waits longer than it said; 0: none.",
            "tenant", "lane", "cause",
        )  # fmt: skip
        self._grants = counter("grants", "Leases granted.", "tenant", "lane")
        self._ends = counter("ends", "Leases and requests that are over, by how.", "tenant", "lane", "end")
        self._lost = counter("losses", "Leases that the store did not have any more.")
        self._wait = prometheus.Histogram(
            "gpumem_lease_wait_seconds",
            "From the request to the grant.",
            ["lane"],
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self._last_pass = gauge("last_pass_timestamp_seconds", "When the leader's last pass ended; 0: none yet.")
        self._passes = counter("passes", "The leader's passes, by whether the store answered.", "outcome")
        for tenant, lane in self._pairs:
            self._grants.labels(tenant=tenant, lane=lane)
            for end in End:
                self._ends.labels(tenant=tenant, lane=lane, end=end.value)
        self.shown(Book(), (), datetime.min)  # noqa: DTZ901 - no lease, so nothing is subtracted from it

    def shown(self, book: Book, overdue: Sequence[Overdue], now_at: datetime) -> None:
        """Shows all pairs, also those that have nothing now."""
        granted_mib: Counter[tuple[str, str]] = Counter()
        for lease in book.granted():
            granted_mib[lease.tenant, lease.lane] += lease.mib
        held = Counter((lease.tenant, lease.lane) for lease in book.granted())
        waiting = Counter((lease.tenant, lease.lane) for lease in book.waiting())
        oldest = {
            (lease.tenant, lease.lane): (now_at - lease.asked_at).total_seconds() for lease in reversed(book.waiting())
        }
        late = {(one.tenant, one.lane, one.cause): one.seconds for one in reversed(overdue)}
        for pair in {*self._pairs, *held, *waiting}:
            tenant, lane = pair
            self._granted.labels(tenant=tenant, lane=lane).set(mib_to_bytes(granted_mib[pair]))
            self._held.labels(tenant=tenant, lane=lane).set(held[pair])
            self._waiting.labels(tenant=tenant, lane=lane).set(waiting[pair])
            self._oldest.labels(tenant=tenant, lane=lane).set(oldest.get(pair, 0.0))
            for cause in CAUSES:
                self._overdue.labels(tenant=tenant, lane=lane, cause=cause).set(late.get((tenant, lane, cause), 0.0))

    def granted(self, lease: Lease) -> None:
        """Counts it."""
        self._grants.labels(tenant=lease.tenant, lane=lease.lane).inc()
        if lease.granted_at is not None:
            self._wait.labels(lane=lease.lane).observe((lease.granted_at - lease.asked_at).total_seconds())

    def ended(self, lease: Lease, end: End) -> None:
        """Counts it."""
        self._ends.labels(tenant=lease.tenant, lane=lease.lane, end=end.value).inc()

    def lost(self, count: int) -> None:
        """Counts them."""
        self._lost.inc(count)

    def passed(self, at_seconds: float, answered: bool) -> None:
        """Remembers it."""
        self._passes.labels(outcome="answered" if answered else "silent").inc()
        if answered:
            self._last_pass.set(at_seconds)
