"""The demand gates' metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import prometheus_client as prometheus

from helpers.domain.demand_gates.decision import GateReason, GateVerdict

ACTS = ("open", "close")
OUTCOMES = ("done", "failed", "overtaken", "dry_run")


class PrometheusGateMetrics:
    """`ports.gates.GateMetrics`. Every act of a known gate begins at 0."""

    def __init__(self, registry: prometheus.CollectorRegistry, gates: Sequence[str] = ()) -> None:
        self._open = prometheus.Gauge(
            "gpumem_coordinator_gate_open", "Whether the gate's workload should run.", ["gate"], registry=registry
        )
        self._runs = prometheus.Gauge(
            "gpumem_coordinator_gate_replicas", "Whether the workload has a replica.", ["gate"], registry=registry
        )
        self._closed = prometheus.Gauge(
            "gpumem_coordinator_gate_closed",
            "1 for the reason why the gate is closed.",
            ["gate", "reason"],
            registry=registry,
        )
        self._acts = prometheus.Counter(
            "gpumem_coordinator_gate_acts", "Scalings.", ["gate", "act", "outcome"], registry=registry
        )
        for gate in gates:
            for act in ACTS:
                for outcome in OUTCOMES:
                    self._acts.labels(gate=gate, act=act, outcome=outcome)

    def judged(self, verdict: GateVerdict, runs: bool | None) -> None:
        """Shows it."""
        self._open.labels(gate=verdict.gate).set(int(verdict.open))
        for reason in GateReason:
            if reason is not GateReason.OPEN:
                is_why = not verdict.open and verdict.reason is reason
                self._closed.labels(gate=verdict.gate, reason=reason.value).set(int(is_why))
        if runs is not None:
            self._runs.labels(gate=verdict.gate).set(int(runs))

    def acted(self, gate: str, act: str, outcome: str) -> None:
        """Counts it."""
        self._acts.labels(gate=gate, act=act, outcome=outcome).inc()
