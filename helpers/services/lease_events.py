"""Events about leases, on the pod that asked, else on its tenant's workload."""

from __future__ import annotations

from typing import Any

from helpers.domain.leases.book import End, Lease
from helpers.domain.leases.settings import HolderRule
from helpers.ports.events import Events

# What its holder did itself, or does not exist to read, needs no Event.
_REASONS = {
    End.REFUSED: "GPULeaseRefused",
    End.EXPIRED: "GPULeaseExpired",
    End.WINDOW: "GPULeaseWindowClosed",
}
_API_VERSIONS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1"}


class LeaseEvents:
    """Writes them where there is a cluster."""

    def __init__(self, events: Events | None) -> None:
        self._events = events

    def ended(self, lease: Lease, holder: HolderRule) -> None:
        """`lease` is over."""
        reason = _REASONS.get(lease.end) if lease.end is not None else None
        if self._events is None or reason is None:
            return
        message = f"{lease.mib} MiB in lane {lease.lane} for tenant {lease.tenant}: {lease.reason}"
        self._events.record(_subject(lease, holder), reason, message, event_type="Warning")


def _subject(lease: Lease, holder: HolderRule) -> dict[str, Any]:
    # Only a pod of the tenant's own namespace: Events may be written there and nowhere else.
    if lease.holder.pod and lease.holder.namespace == holder.namespace:
        metadata = {"name": lease.holder.pod, "namespace": holder.namespace, "uid": lease.holder.pod_uid}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    metadata = {"name": holder.name, "namespace": holder.namespace}
    return {"apiVersion": _API_VERSIONS[holder.kind], "kind": holder.kind, "metadata": metadata}
