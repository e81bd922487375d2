"""The alerts and panels about GPU jobs: where they are, and that the manager writes what they go by."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import prometheus_client
import yaml

from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.domain.estate.monitoring import Monitoring
from helpers.rendering.dashboard import dashboard
from helpers.rendering.manager_objectives import objective_alerts, objective_records
from helpers.rendering.monitoring import monitoring_objects, scrape_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from tests.rules.manager_cases import MANAGER_CASES, manager_rules
from tests.rules.promtool import Rules
from tests.unit.test_monitoring_dashboard import lost, read_by_grafana

RULES = manager_rules()
NAME = re.compile(r"gpumem_manager_[a-z_]+")
RECORD = re.compile(r"gpumem:[a-z0-9_]+(?::[a-z0-9_]+)?")


def written() -> set[str]:
    """Every series' name that a manager writes."""
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusManagerMetrics(registry, ["vision"], {"vision": Decimal(10)}, ["webhook"])
    metrics.queue({("vision", "running"): 1}, 0)
    metrics.waited("high", 1.0)
    metrics.answered("GET /", 200, 0.1)
    metrics.waiting({"vision": 1.0})
    metrics.spent({"vision": Decimal(1)})
    metrics.cards({("A100_80GB", "spot"): 1.0}, {})
    metrics.prices({("A100_80GB", "spot"): Decimal(1)})
    metrics.started(1.0)
    return set(NAME.findall(prometheus_client.generate_latest(registry).decode()))


def board(rules: Rules = RULES) -> dict[str, Any]:
    return dashboard(rules.estate, rules.settings, rules.monitoring)


def job_panels() -> list[dict[str, Any]]:
    return [one for one in board()["panels"] if "gpumem_manager" in json.dumps(one)]


def test_an_estate_without_a_manager_has_none_of_it() -> None:
    example = Rules.of_example()
    found = {alert.name for alert in monitoring_alerts(example.estate, example.settings, example.monitoring)}
    assert {case.alert for case in MANAGER_CASES}.isdisjoint(found)
    assert "gpumem_manager" not in json.dumps(board(example))
    assert "gpumem-manager" not in scrape_text(example.estate, example.monitoring)


def test_every_series_of_alerts_and_panels_is_one_that_the_manager_writes() -> None:
    alerts = monitoring_alerts(RULES.estate, RULES.settings, RULES.monitoring)
    records = " ".join(rule["expr"] for rule in objective_records())
    asked = set(NAME.findall(" ".join(alert.expr for alert in alerts) + json.dumps(board()) + records))
    assert len(asked) > 6
    assert asked <= written()


def test_a_project_that_waits_no_more_shows_0_and_not_what_it_was() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusManagerMetrics(registry, ["vision"])
    for longest in ({"vision": 77.0}, {}):
        metrics.waiting(longest)
    assert registry.get_sample_value("gpumem_manager_longest_wait_seconds", {"project": "vision"}) == 0


def test_grafana_knows_every_key_of_the_panels() -> None:
    plugins = {f".annotations.list[0].{key}" for key in ("titleFormat", "textFormat", "tagKeys")}
    assert set(lost(board(), read_by_grafana(board()))) == plugins


def test_the_panels_lie_side_by_side_under_their_heading() -> None:
    panels = job_panels()
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels]
    assert len(set(places)) == len(panels) == 11
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in panels)
    assert [one["title"] for one in board()["panels"] if one["type"] == "row"][2] == "GPU jobs"


def test_the_manager_is_scraped_where_it_runs() -> None:
    jobs = {one["job_name"]: one for one in yaml.safe_load(scrape_text(RULES.estate, Monitoring()))["scrape_configs"]}
    (pods,) = jobs["gpumem-manager"]["kubernetes_sd_configs"]
    assert pods["namespaces"] == {"names": ["gpu-system"]}
    operator = monitoring_objects(RULES.estate, RULES.settings, Monitoring(prometheus_operator=True))
    (monitor,) = [one.manifest for one in operator if one.address == "monitoring-gpumem-manager"]
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["gpu-system"]}
    assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "gpumem-manager"}


def test_every_record_that_is_read_is_made_before_it_is_read() -> None:
    made: set[str] = set()
    for rule in objective_records():
        assert set(RECORD.findall(rule["expr"])) <= made, rule["record"]
        made.add(rule["record"])
    assert set(RECORD.findall(" ".join(alert.expr for alert in objective_alerts(offers_spot=True)))) <= made


def test_nothing_is_promised_of_spot_where_there_is_none() -> None:
    found = {alert.name for alert in objective_alerts(offers_spot=False)}
    every = {alert.name for alert in objective_alerts(offers_spot=True)}
    assert every - found == {"GPUSpotShareObjectiveMissed"}
