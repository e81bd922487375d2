"""The alert about the agents of budgets per card: where it is, what it goes by, whom Prometheus asks."""

from __future__ import annotations

import re

import prometheus_client
import yaml

from helpers.adapters.dra_agent_metrics import PrometheusDraMetrics
from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.claims_agent_alerts import claims_agent_alerts
from helpers.rendering.monitoring import dashboard_text, scrape_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from helpers.rendering.render import render
from tests.synth.estates import example, on_both_backends, on_claims

JOB = "gpumem-dra-agent"


def by_nvidia(estate: Estate) -> Estate:
    return estate.model_copy(update={"budget": estate.budget.model_copy(update={"published_by": "nvidia"})})


def found(estate: Estate) -> tuple[set[str], set[str]]:
    """Alerts and scrape jobs of an estate."""
    alerts = {alert.name for alert in monitoring_alerts(estate, watchdog_settings(estate), Monitoring())}
    return alerts, {job["job_name"] for job in yaml.safe_load(scrape_text(estate, Monitoring()))["scrape_configs"]}


def test_only_estates_with_our_agents_watch_them() -> None:
    for estate, expected in ((on_claims(), True), (on_both_backends(), True), (example(), False)):
        alerts, jobs = found(estate)
        assert ("GPUClaimsAgentDown" in alerts, JOB in jobs) == (expected,) * 2
        alerts, jobs = found(by_nvidia(estate))
        assert ("GPUClaimsAgentDown" in alerts, JOB in jobs) == (False,) * 2


def test_nobody_misses_a_number_where_every_budget_is_a_claim() -> None:
    """No node shows one and no watch runs, so the number's alert could never fall silent."""
    for estate, expected in ((on_claims(), False), (on_both_backends(), True), (example(), True)):
        alerts, jobs = found(estate)
        assert ("GPUCapacityMissing" in alerts, "gpumem-capacity" in jobs) == (expected,) * 2
        titles = dashboard_text(estate, watchdog_settings(estate), Monitoring())
        assert ("Nodes without their number" in titles, "Nodes that offer no card" in titles) == (
            expected,
            not expected,
        )


def test_where_nvidias_driver_publishes_nobody_guesses_which_nodes_have_a_number() -> None:
    estate = by_nvidia(on_both_backends())
    alerts = {alert.name: alert for alert in monitoring_alerts(estate, watchdog_settings(estate), Monitoring())}
    assert "not_advertised" not in alerts["GPUCapacityMissing"].expr
    assert "watch_fails" in alerts["GPUCapacityMissing"].expr


def test_every_series_of_the_alert_is_one_that_the_agent_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusDraMetrics(registry)
    metrics.failed("prepare")
    text = prometheus_client.generate_latest(registry).decode()
    named = {
        name for alert in claims_agent_alerts(on_claims()) for name in re.findall(r"gpumem_dra_[a-z_]+", alert.expr)
    }
    assert len(named) == 4
    assert all(re.search(rf"^{name}[ {{]", text, re.MULTILINE) for name in named)


def test_prometheus_finds_the_agents_where_they_are() -> None:
    """The pods' namespace, label and port's name, which a selector gets wrong in silence."""
    estate = on_claims()
    objects = {one.address: one.manifest for one in render(estate).objects}
    agent, monitor = objects["dra-agent-node-gpu-worker"], objects[f"monitoring-{JOB}"]
    pod = agent["spec"]["template"]
    (job,) = [
        job for job in yaml.safe_load(scrape_text(estate, Monitoring()))["scrape_configs"] if job["job_name"] == JOB
    ]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == [agent["metadata"]["namespace"]]
    (selector,) = discovery["selectors"]
    key, _, value = selector["label"].partition("=")
    assert pod["metadata"]["labels"][key] == value
    assert monitor["metadata"]["namespace"] == agent["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert f":{ports['metrics']}" in pod["spec"]["containers"][0]["args"]
    # The series of this alert are by node, and the agent itself does not say where it is.
    assert {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"} in monitor["spec"][
        "podMetricsEndpoints"
    ][0]["relabelings"]
