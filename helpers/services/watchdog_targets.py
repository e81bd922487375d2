"""Where the exporters are: said explicitly, or followed in their Service's EndpointSlices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.watchdog_telemetry import ExporterTarget

SERVICE_LABEL = "kubernetes.io/service-name"
PORT_NAME = "metrics"


class Targets(Protocol):
    """The exporters of this moment."""

    failure: Exception | None

    def now(self) -> frozenset[ExporterTarget]:
        """All of them."""
        ...

    def follow(self, stop: Callable[[], bool]) -> None:
        """Keeps them up to date until `stop()`."""
        ...


class ExplicitTargets:
    """Targets that never change: in the lab and outside Kubernetes, where EndpointSlices refuse loopback."""

    def __init__(self, targets: frozenset[ExporterTarget]) -> None:
        self._targets = targets
        self.failure: Exception | None = None

    def now(self) -> frozenset[ExporterTarget]:
        """All of them."""
        return self._targets

    def follow(self, stop: Callable[[], bool]) -> None:
        """Nothing to follow."""


class DiscoveredTargets:
    """The endpoints of one Service, by address. Names are never resolved: a broken DNS changes nothing."""

    def __init__(self, cluster: Cluster, *, namespace: str, service: str) -> None:
        self._cluster = cluster
        self._ref = ObjectRef("discovery.k8s.io/v1", "EndpointSlice", "", namespace)
        self._selector = f"{SERVICE_LABEL}={service}"
        self._lock = threading.Lock()
        self._slices: dict[str, frozenset[ExporterTarget]] = {}
        self.failure: Exception | None = None

    def now(self) -> frozenset[ExporterTarget]:
        """All of them, over all slices."""
        with self._lock:
            return frozenset().union(*self._slices.values())

    def follow(self, stop: Callable[[], bool]) -> None:
        """Keeps them until `stop()`; whatever ends it is left in `failure`."""
        try:
            for event in self._cluster.watch(self._ref, label_selector=self._selector, stop=stop):
                name = str(event.object["metadata"]["name"])
                found = frozenset() if event.type == "DELETED" else frozenset(targets_of(event.object))
                with self._lock:
                    self._slices[name] = found
        except Exception as error:  # noqa: BLE001 - raised by the loop: a watchdog with one eye shut would stay healthy
            self.failure = error


def targets_of(endpoint_slice: Manifest) -> Iterator[ExporterTarget]:
    """The exporters of one slice, unready ones too: whether it answers is found out by asking."""
    port = next((one["port"] for one in endpoint_slice.get("ports") or () if one.get("name") == PORT_NAME), None)
    if port is None or endpoint_slice.get("addressType") not in ("IPv4", "IPv6"):
        return
    for endpoint in endpoint_slice.get("endpoints") or ():
        node, addresses = endpoint.get("nodeName"), endpoint.get("addresses") or ()
        if node and addresses:
            host = f"[{addresses[0]}]" if endpoint_slice["addressType"] == "IPv6" else addresses[0]
            yield ExporterTarget(str(node), f"http://{host}:{port}/metrics")
