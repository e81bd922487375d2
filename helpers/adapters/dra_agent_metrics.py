"""`ports.dra_agent.DraMetrics` for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import prometheus_client as prometheus

from helpers.domain.dra.prepared import PreparedClaim
from helpers.domain.memory import mib_to_bytes


class PrometheusDraMetrics:
    """The agent's series; those of a claim end with it."""

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> prometheus.Gauge:
            return prometheus.Gauge(f"gpumem_dra_{name}", text, labels, registry=registry)

        self._devices = gauge("published_devices", "Devices in this node's ResourceSlice.")
        self._generation = gauge("slice_generation", "Generation of this node's pool; 0 where none is published.")
        self._tainted = gauge("device_tainted", "Taints on published devices; always 1.", "device", "taint")
        self._standing_back = gauge("standing_back", "1 where NVIDIA's DRA driver publishes shared memory here.")
        self._registered = gauge("kubelet_registered", "1 where the kubelet took the plugin.")
        self._claims = gauge("prepared_claims", "Claims that are prepared on this node.")
        granted = ("namespace", "claim", "device", "UUID")
        self._granted = gauge("claim_granted_bytes", "Memory that a prepared claim may use of a card.", *granted)
        self._errors = prometheus.Counter(
            "gpumem_dra_errors",  # the library appends _total
            "What failed: look, publish, contested, prepare, unprepare, checkpoint, cdi or registration.",
            ["what"],
            registry=registry,
        )

    def published(self, device_count: int, generation: int) -> None:
        """The slice as it stands."""
        self._devices.set(device_count)
        self._generation.set(generation)

    def tainted(self, devices: Sequence[tuple[str, str]]) -> None:
        """`(device, taint)` pairs as they stand."""
        self._tainted.clear()
        for device, taint in devices:
            self._tainted.labels(device=device, taint=taint).set(1)

    def standing_back(self, *, value: bool) -> None:
        """Whether NVIDIA's own driver publishes here."""
        self._standing_back.set(int(value))

    def registered(self, *, value: bool) -> None:
        """Whether the kubelet took the plugin."""
        self._registered.set(int(value))

    def prepared(self, claims: Sequence[PreparedClaim]) -> None:
        """What is prepared now."""
        self._claims.set(len(claims))
        self._granted.clear()
        for claim in claims:
            for grant in claim.grants:
                labels = {"namespace": claim.namespace, "claim": claim.name}
                self._granted.labels(**labels, device=grant.device, UUID=grant.uuid).inc(
                    mib_to_bytes(grant.granted_mib)
                )

    def failed(self, what: str) -> None:
        """Counts one error."""
        self._errors.labels(what=what).inc()
