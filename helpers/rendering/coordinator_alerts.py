"""The alerts about lanes, leases, demand gates and their coordinator."""

from __future__ import annotations

from helpers.domain.estate.coordinator import Coordinator
from helpers.rendering import monitoring_queries as q
from helpers.rendering.alert import Alert

# Beyond a change of leaders and a Redis that restarts.
LEAST_COORDINATOR_LATE_SECONDS = 60
FALLBACK_FOR_SECONDS = 60
# A process that was told to give memory back may take so long; so may a leader that is being followed.
LEASE_OVERDUE_SECONDS = 60
# Windows and queues open a gate a few times in a day; a reload of a model takes a minute each time.
GATE_OPENS_PER_HOUR = 4
GATE_FAILED_WINDOW = "15m"


def coordinator_alerts(coordinator: Coordinator) -> tuple[Alert, ...]:
    """About lanes and their coordinator."""
    late_seconds = max(LEAST_COORDINATOR_LATE_SECONDS, 12 * coordinator.poll_seconds)
    late = f"abs(time() - max({q.COORDINATOR_PASS})) > {late_seconds:g}"
    return (
        Alert(
            "GPULanePausedTooLong",
            f"max by (lane) ({q.LANE_PAUSED}) > {coordinator.paused_for_seconds}",
            "warning",
            "Jobs of lane {{ $labels.lane }} have waited for {{ $value | humanizeDuration }}.",
            "Its queues are paused for longer than any window or realtime work should take.",
        ),
        Alert(
            "GPUFallbackActive",
            f"max by (tenant) ({q.FALLBACK}) == 1",
            "critical",
            "The card or the server of tenant {{ $labels.tenant }} does not answer.",
            "Realtime callers are told that the service is temporarily unavailable, and batch jobs wait.",
            for_seconds=FALLBACK_FOR_SECONDS,
        ),
        Alert(
            "GPUCoordinatorDown",
            q.with_cause([("late", late), ("absent", f"absent({q.COORDINATOR_PASS})")]),
            "warning",
            "Nobody coordinates the job queues in front of the cards.",
            f"Cause {{{{ $labels.cause }}}}: no look at the queues was finished within {late_seconds:g} s. "
            "What is paused stays paused, and batch no longer waits for realtime.",
            for_seconds=FALLBACK_FOR_SECONDS,
        ),
    )


def lease_alerts() -> tuple[Alert, ...]:
    """About leases and whoever grants them."""
    late = f"abs(time() - max({q.LEASE_PASS})) > {LEAST_COORDINATOR_LATE_SECONDS}"
    return (
        Alert(
            "GPULeaseOverdue",
            f"max by (tenant, lane, cause) ({q.LEASE_OVERDUE}) > {LEASE_OVERDUE_SECONDS}",
            "warning",
            "A lease of tenant {{ $labels.tenant }} in lane {{ $labels.lane }} is over its time by "
            "{{ $value | humanizeDuration }}.",
            "Cause {{ $labels.cause }}. held: the lease is over, and its pod still has the memory, which nobody else "
            "gets. waiting: a request waits longer than it said it would, and was neither granted nor refused.",
        ),
        Alert(
            "GPULeasesDown",
            q.with_cause([("late", late), ("absent", f"absent({q.LEASE_PASS})")]),
            "warning",
            "Nobody grants leases of GPU memory.",
            f"Cause {{{{ $labels.cause }}}}: no pass over the leases was finished within "
            f"{LEAST_COORDINATOR_LATE_SECONDS} s. Who holds one goes on as long as it is renewed; who asks waits.",
            for_seconds=FALLBACK_FOR_SECONDS,
        ),
    )


def gate_alerts() -> tuple[Alert, ...]:
    """About demand gates."""
    # Every series begins at 0, so `increase` sees the first act, too. Each coordinator counts its own.
    one = "max by (gate, act, instance)"
    opened = f'{one} (increase({q.GATE_ACTS}{{act="open", outcome="done"}}[1h]))'
    failed = f'{one} (increase({q.GATE_ACTS}{{outcome="failed"}}[{GATE_FAILED_WINDOW}]))'
    # Half an act less: extrapolation makes 3.99 of 4.
    flaps = f"sum by (gate) ({opened}) > {GATE_OPENS_PER_HOUR - 0.5:g}"
    return (
        Alert(
            "GPUDemandGateUnsteady",
            q.with_cause([("flaps", flaps), ("fails", f"sum by (gate) ({failed}) > 0")]),
            "warning",
            "The demand gate {{ $labels.gate }} does not come to rest.",
            f"Cause {{{{ $labels.cause }}}}. flaps: it opened {GATE_OPENS_PER_HOUR} times or more within an hour, "
            "and its workload starts anew each time. fails: the API refuses to scale its workload.",
        ),
    )
