"""The alert about demand gates: where it is, and what it goes by."""

from __future__ import annotations

import prometheus_client

from helpers.adapters.gate_metrics import PrometheusGateMetrics
from helpers.rendering.monitoring_alerts import monitoring_alerts
from tests.rules.gate_cases import NAME
from tests.rules.promtool import Rules


def test_an_estate_without_gates_has_none() -> None:
    example = Rules.of_example()
    found = {alert.name for alert in monitoring_alerts(example.estate, example.settings, example.monitoring)}
    assert NAME not in found


def test_its_series_is_one_that_the_coordinator_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusGateMetrics(registry, ["vllm"])
    text = prometheus_client.generate_latest(registry).decode()
    assert 'gpumem_coordinator_gate_acts_total{act="open",gate="vllm",outcome="done"} 0.0' in text
