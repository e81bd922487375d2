"""Kubernetes Events (core/v1), as `kubectl describe` shows them."""

from __future__ import annotations

import itertools
from typing import Any

from helpers.domain.errors import ClusterError
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest
from helpers.ports.events import EventType
from helpers.ports.log import Log

# Objects without a namespace (nodes) have their Events in this one: `kubectl describe node` looks there.
CLUSTER_SCOPED_NAMESPACE = "default"
_LONGEST_MESSAGE = 1024  # the API server refuses longer ones


class KubernetesEvents:
    """`ports.events.Events` for one component."""

    def __init__(self, cluster: Cluster, *, component: str, instance: str, clock: Clock, log: Log) -> None:
        self._cluster = cluster
        self._component = component
        self._instance = instance
        self._clock = clock
        self._log = log
        self._count = itertools.count()

    def record(self, regarding: Manifest, reason: str, message: str, *, event_type: EventType = "Normal") -> None:
        """Writes one Event; where that is refused, the log says so and the work goes on."""
        event = self._event(regarding, reason, message, event_type)
        try:
            self._cluster.create(event, field_manager=self._component)
        except ClusterError as error:
            name = regarding["metadata"]["name"]
            self._log.warning("event_not_written", object=f"{regarding['kind']} {name}", reason=str(error))

    def _event(self, regarding: Manifest, reason: str, message: str, event_type: EventType) -> dict[str, Any]:
        metadata, now_at = regarding["metadata"], self._clock.now_at()
        written_at = now_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        # Unique among the object's Events, also for two within one tick of the clock.
        suffix = f"{int(now_at.timestamp() * 1_000_000):x}{next(self._count):x}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{suffix}",
                "namespace": metadata.get("namespace") or CLUSTER_SCOPED_NAMESPACE,
            },
            "involvedObject": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                **{key: metadata[key] for key in ("name", "namespace", "uid") if metadata.get(key)},
            },
            "reason": reason,
            "message": message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…",
            "type": event_type,
            "count": 1,
            "firstTimestamp": written_at,
            "lastTimestamp": written_at,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
