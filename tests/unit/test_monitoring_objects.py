"""What the monitoring objects hold, and that names agree with those who write and read them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from pydantic import ValidationError

from helpers.adapters.metrics import PrometheusCapacityMetrics, new_registry
from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.telemetry.metrics import families
from helpers.domain.telemetry.reading import Attribution, Budget, DeviceSample, Gpu, MemoryReading, Sensors, Snapshot
from helpers.domain.watchdog.settings import WatchdogSettings, watchdog_settings
from helpers.rendering.alert import Alert
from helpers.rendering.monitoring import monitoring_objects, rule_groups, rules_text, scrape_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from helpers.rendering.monitoring_queries import grown, pods_of_elastic_tenants
from helpers.rendering.objects import Rendered
from helpers.rendering.render import render
from tests.synth.estates import SHIPPED, example, example_on_webhook, shipped

OPERATOR = Monitoring(prometheus_operator=True, object_labels={"release": "kube-prometheus-stack"})


def rendered(monitoring: Monitoring, estate: Estate | None = None) -> dict[str, Any]:
    estate = estate or example()
    objects = list(monitoring_objects(estate, watchdog_settings(estate), monitoring))
    assert len({one.address for one in objects}) == len(objects)
    return {one.address: one.manifest for one in objects}


def alerts(**replaced: str) -> dict[str, Alert]:
    estate = example(**replaced)
    found = monitoring_alerts(estate, watchdog_settings(estate), Monitoring())
    assert len({alert.name for alert in found}) == len(found)
    return {alert.name: alert for alert in found}


def test_with_the_operator_there_are_its_objects_and_no_config_map_of_rules() -> None:
    found = rendered(OPERATOR)
    assert set(found) == {
        "monitoring-rules",
        "monitoring-gpumem-exporter",
        "monitoring-gpumem-watchdog",
        "monitoring-gpumem-capacity",
        "monitoring-dashboard",
    }
    for address in set(found) - {"monitoring-dashboard"}:
        assert found[address]["metadata"]["labels"]["release"] == "kube-prometheus-stack", address
        assert found[address]["metadata"]["namespace"] == "nvidia"


def test_without_the_operator_no_object_needs_its_crds() -> None:
    found = rendered(Monitoring())
    assert {manifest["apiVersion"] for manifest in found.values()} == {"v1"}
    assert set(found) == {"monitoring-config", "monitoring-dashboard"}


def test_both_forms_hold_the_same_rules() -> None:
    plain = yaml.safe_load(rendered(Monitoring())["monitoring-config"]["data"]["gpumem.rules.yaml"])
    assert plain == rendered(OPERATOR)["monitoring-rules"]["spec"]


@pytest.mark.parametrize("estate", [example(), example_on_webhook()], ids=["policy", "webhook"])
def test_both_forms_scrape_the_same_pods_and_leave_their_labels_alone(estate: Estate) -> None:
    """Without honoured labels every tenant's series would seem to be about the exporter's own pod."""
    monitors = [manifest for manifest in rendered(OPERATOR, estate).values() if manifest["kind"] == "PodMonitor"]
    configs = yaml.safe_load(scrape_text(estate, Monitoring()))["scrape_configs"]
    assert {monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] for monitor in monitors} == {
        config["kubernetes_sd_configs"][0]["selectors"][0]["label"].partition("=")[2] for config in configs
    }
    assert all(monitor["spec"]["podMetricsEndpoints"][0]["honorLabels"] is True for monitor in monitors)
    assert all(config["honor_labels"] is True for config in configs)
    jobs = {
        rule["replacement"]
        for monitor in monitors
        for rule in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
        if rule["targetLabel"] == "job"
    }
    assert jobs == {config["job_name"] for config in configs}


@pytest.mark.parametrize("monitoring", [OPERATOR, Monitoring()], ids=["operator", "plain"])
def test_they_have_their_place_among_the_estates_other_objects(monitoring: Monitoring) -> None:
    estate = example()
    others = render(estate)
    ours = tuple(monitoring_objects(estate, watchdog_settings(estate), monitoring))
    known = {one.address for one in others.objects}
    added = tuple(one for one in ours if one.address not in known)
    order = [item.address for item in Rendered((*others.objects, *added), others.steps).ordered()]
    assert all(order.index("namespace") < order.index(one.address) for one in ours)
    assert {one.wave for one in ours} == {0}
    assert {one.component for one in ours} == {"monitoring"}


def test_the_capacity_watch_is_scraped_as_it_is_rendered() -> None:
    """The pods' label and the port's name, which a selector gets wrong in silence."""
    watch = next(one.manifest for one in render(example()).objects if one.address == "capacity-watch")
    pod = watch["spec"]["template"]
    monitor = rendered(OPERATOR)["monitoring-gpumem-capacity"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert monitor["podMetricsEndpoints"][0]["port"] in ports


def test_an_estate_without_the_capacity_watch_neither_scrapes_nor_misses_it() -> None:
    without = {"watch: true": "watch: false"}
    assert "monitoring-gpumem-capacity" not in rendered(OPERATOR, example(**without))
    assert "watch_absent" in alerts()["GPUCapacityMissing"].expr
    assert "watch_absent" not in alerts(**without)["GPUCapacityMissing"].expr


def test_the_dashboard_lies_where_grafanas_sidecar_looks() -> None:
    own = Monitoring(grafana_sidecar_label="example.com/board", grafana_sidecar_value="yes")
    found = rendered(own)["monitoring-dashboard"]
    assert found["metadata"]["labels"]["example.com/board"] == "yes"
    assert json.loads(found["data"]["gpumem.json"])["uid"] == "gpumem"
    assert "monitoring-dashboard" not in rendered(Monitoring(dashboard=False))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_estate_renders_the_same_rules_twice(path: Any) -> None:
    estate = shipped(path)
    settings = watchdog_settings(estate)
    assert rules_text(estate, settings, Monitoring()) == rules_text(estate, settings, Monitoring())
    assert len(rendered(OPERATOR, estate)) >= 4


def test_thresholds_come_from_the_estate() -> None:
    """Field fault 9: the alert's 1024 was not the floor's 1536."""
    changed = alerts(**{"floor_mib: 1536": "floor_mib: 777", "reserve_mib: 1360": "reserve_mib: 1111"})
    assert "< 777" in changed["GPUVRAMLow"].expr
    assert "777 MiB" in changed["GPUVRAMLow"].description
    assert "> 1111" in changed["GPUMemoryUnattributed"].expr
    slow = alerts(**{"interval_seconds: 5": "interval_seconds: 20"})
    assert "> 240" in slow["GPUVRAMWatchdogDown"].expr
    assert "> 90" in slow["GPUVRAMTelemetryDown"].expr  # three intervals and two scrapes
    other = alerts(**{"resource: viktorbarzin.me/gpumem": "resource: example.com/gpu-mem"})
    assert 'resource="example_com_gpu_mem"' in other["GPUTenantPendingOnMemory"].expr
    assert 'resource="example_com_gpu_mem"' in other["GPUCapacityMissing"].expr


def test_the_recycling_alert_comes_before_the_cap_whatever_the_cap() -> None:
    for cap, threshold in ((1, "> 0.5"), (2, "> 1.5"), (3, "> 1.5"), (50, "> 1.5")):
        settings = WatchdogSettings(floor_mib=1, recycles_per_hour_tenant=cap)
        (alert,) = [one for one in monitoring_alerts(example(), settings, Monitoring()) if "Repeatedly" in one.name]
        assert alert.expr.endswith(threshold)


def test_the_pressure_alert_is_held_for_an_hour_unless_the_estate_says_otherwise() -> None:
    rule = {rule["alert"]: rule for rule in rule_groups(*_of_example(Monitoring()))["groups"][0]["rules"]}
    assert rule["GPUVRAMLow"]["keep_firing_for"] == "3600s"
    none = rule_groups(*_of_example(Monitoring(keep_firing_for_seconds=0)))["groups"][0]["rules"]
    assert "keep_firing_for" not in none[0]


def test_an_armed_watchdog_that_is_gone_is_worse_than_one_that_only_watched() -> None:
    assert alerts()["GPUVRAMWatchdogDown"].severity == "warning"
    assert alerts(**{"dry_run: true": "dry_run: false"})["GPUVRAMWatchdogDown"].severity == "critical"


def test_names_and_texts_are_in_order() -> None:
    found = alerts()
    assert all(re.fullmatch(r"GPU([A-Z][a-z]*)+|GPUVRAM([A-Z][a-z]+)+", name) for name in found)
    assert len({alert.summary for alert in found.values()}) == len(found)
    assert len({alert.description for alert in found.values()}) == len(found)
    rule = next(iter(found.values())).rule("https://wiki.example.com/runbooks")
    assert rule["annotations"]["runbook_url"] == "https://wiki.example.com/runbooks/GPUVRAMLow.md"


def test_every_series_of_the_rules_is_one_that_somebody_writes() -> None:
    """The exporter's and the capacity watch's own output, against every name in the rules."""
    text = rules_text(*_of_example(Monitoring()))
    named = set(re.findall(r"\b(?:gpu|gpumem)_[a-z_]+_(?:bytes|up|total|celsius|seconds|leader|run)\b", text))
    watchdogs = {name for name in named if name.startswith("gpumem_watchdog_")}
    assert len(named - watchdogs) >= 9
    assert named - watchdogs <= _exporter_names() | _capacity_names()


def _exporter_names() -> set[str]:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    gpu = Gpu(0, "GPU-a", "Tesla T4")
    snapshot = Snapshot(
        at=at,
        devices=(DeviceSample(gpu, at, MemoryReading(4, 1, 2, 1), Attribution(uses=(), unattributed_bytes=1)),),
        sensors=((gpu, Sensors(temperature_celsius=50)),),
        xid_counts={(gpu, 79): 1},
        budgets=(Budget("a", "b", "c", 1),),
        source_up=True,
    )
    # A container's use is a family as well, with no row in this snapshot.
    return {family.name for family in families(snapshot, version="1") if family.rows} | {"gpu_pod_memory_used_bytes"}


def _capacity_names() -> set[str]:
    registry = new_registry("capacity", "1")
    metrics = PrometheusCapacityMetrics(registry)
    metrics.advertised("n", 1)
    metrics.succeeded(datetime.now(UTC))
    return set(re.findall(r"^([a-z_]+)", generate_latest(registry).decode(), re.MULTILINE))


def _of_example(monitoring: Monitoring) -> tuple[Estate, WatchdogSettings, Monitoring]:
    estate = example()
    return estate, watchdog_settings(estate), monitoring


def test_only_the_pods_of_elastic_tenants_may_wait() -> None:
    assert pods_of_elastic_tenants(example()) == ""
    both = example(**{"  - name: frigate\n": "  - name: frigate\n    elastic: true\n"})
    assert pods_of_elastic_tenants(both) == (
        'kube_pod_status_unschedulable{namespace="frigate", pod=~"frigate-[0-9]+"}'
    )


def test_a_counters_growth_is_one_expression_however_it_is_used() -> None:
    assert grown("x", "5m").startswith("(")
    assert grown("x", "5m").endswith(")")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runbook_base_url", "https://example.com/runbooks/"),
        ("runbook_base_url", "https://example.com/{{ .x }}"),
        ("runbook_base_url", ""),
        ("grafana_sidecar_value", "two words"),
        ("object_labels", {"bad key!": "a"}),
        ("keep_firing_for_seconds", -1),
        ("temperature_celsius", 300),
        ("unattributed_mib", 0),
        ("scrape_interval_seconds", 0),
        ("unheard_of", 1),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Monitoring.model_validate({field: value})
