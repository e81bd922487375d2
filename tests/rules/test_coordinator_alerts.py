"""The alerts about lanes, leases and their coordinator: where they are, and what they go by."""

from __future__ import annotations

import prometheus_client

from helpers.adapters.coordinator_metrics import PrometheusCoordinatorMetrics
from helpers.adapters.lease_metrics import PrometheusLeaseMetrics
from helpers.rendering.monitoring_alerts import monitoring_alerts
from tests.rules.coordinator_cases import COORDINATOR_CASES, PASS, away, coordinator_rules, paused
from tests.rules.lease_cases import LEASE_CASES, late
from tests.rules.lease_cases import PASS as LEASE_PASS
from tests.rules.promtool import Rules


def test_an_estate_without_a_coordinator_has_none_of_them() -> None:
    example = Rules.of_example()
    found = {alert.name for alert in monitoring_alerts(example.estate, example.settings, example.monitoring)}
    assert {case.alert for case in COORDINATOR_CASES}.isdisjoint(found)


def test_an_estate_without_leases_has_none_of_theirs() -> None:
    lanes = coordinator_rules()
    found = {alert.name for alert in monitoring_alerts(lanes.estate, lanes.settings, lanes.monitoring)}
    assert {case.alert for case in LEASE_CASES}.isdisjoint(found)


def test_every_series_of_the_alerts_is_one_that_the_coordinator_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusCoordinatorMetrics(registry, ["batch"], ["ollama"])
    PrometheusLeaseMetrics(registry, [("trainer", "day")])
    text = prometheus_client.generate_latest(registry).decode()
    for name in (paused(), away(), PASS, late(), LEASE_PASS):
        assert name.partition("{")[0] in text
