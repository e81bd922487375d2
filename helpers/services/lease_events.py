"""Events about leases, on the pod that asked. Who asked without one is told by the answer, the log and the metrics."""

from __future__ import annotations

from helpers.domain.leases.book import End, Lease
from helpers.domain.leases.settings import HolderRule
from helpers.ports.events import Events

# What its holder did itself, or is not there any more to read, needs no Event.
_REASONS = {
    End.REFUSED: "GPULeaseRefused",
    End.EXPIRED: "GPULeaseExpired",
    End.WINDOW: "GPULeaseWindowClosed",
}


class LeaseEvents:
    """Writes them where there is a cluster."""

    def __init__(self, events: Events | None) -> None:
        self._events = events

    def ended(self, lease: Lease, holder: HolderRule) -> None:
        """`lease` is over."""
        reason = _REASONS.get(lease.end) if lease.end is not None else None
        pod = lease.holder
        # Only in the tenant's own namespace: Events may be written there and nowhere else.
        if self._events is None or reason is None or not pod.pod_uid or pod.namespace != holder.namespace:
            return
        metadata = {"name": pod.pod, "namespace": pod.namespace, "uid": pod.pod_uid}
        message = f"{lease.mib} MiB in lane {lease.lane} for tenant {lease.tenant}: {lease.reason}"
        regarding = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        self._events.record(regarding, reason, message, event_type="Warning")
