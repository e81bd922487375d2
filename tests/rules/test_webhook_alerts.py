"""The alerts about the admission webhook: where they are, what they go by, and whom Prometheus asks."""

from __future__ import annotations

import re

import prometheus_client
import pytest
import yaml

from helpers.adapters.injector_metrics import PrometheusInjectorMetrics
from helpers.apps.injector.settings import DEFAULT_LIFETIME_SECONDS
from helpers.domain.estate.monitoring import Monitoring
from helpers.rendering.monitoring import scrape_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from helpers.rendering.render import render
from helpers.rendering.webhook_alerts import CERTIFICATE_LEFT_SECONDS, webhook_alerts
from tests.rules.promtool import Rules
from tests.rules.webhook_cases import DAY, ends, ready, webhook_rules
from tests.synth.estates import PROJECT, example_on_webhook

NAMES = {"GPUWebhookDown", "GPUWebhookCertificateExpiring"}


def test_an_estate_whose_api_server_runs_the_rules_has_none_of_them() -> None:
    for one in (Rules.of_example(), webhook_rules()):
        found = {alert.name for alert in monitoring_alerts(one.estate, one.settings, one.monitoring)}
        jobs = {job["job_name"] for job in yaml.safe_load(scrape_text(one.estate, one.monitoring))["scrape_configs"]}
        expected = one.estate.kubernetes.version == "1.34"
        assert (found >= NAMES, not found.isdisjoint(NAMES), "gpumem-injector" in jobs) == (expected,) * 3


def test_every_series_of_the_alerts_is_one_that_the_injector_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusInjectorMetrics(registry, outcomes=(), acts=())
    text = prometheus_client.generate_latest(registry).decode()
    named = {name for alert in webhook_alerts() for name in re.findall(r"gpumem_injector_[a-z_]+", alert.expr)}
    assert named == {ready().partition("{")[0], ends().partition("{")[0]}
    assert all(f"\n{name} " in text for name in named)


@pytest.mark.parametrize("certificates", ["self", "cert-manager"])
def test_the_alert_comes_half_way_between_the_renewals_day_and_the_end(certificates: str) -> None:
    """Whoever makes the certificate; the page says the two numbers."""
    manifests = {one.address: one.manifest for one in render(example_on_webhook(certificates)).objects}
    left_seconds = DEFAULT_LIFETIME_SECONDS / 3
    if certificates == "cert-manager":
        left_seconds = int(manifests["webhook-certificate"]["spec"]["renewBefore"].removesuffix("h")) * 3600
    assert left_seconds == 2 * CERTIFICATE_LEFT_SECONDS
    (container,) = manifests["webhook"]["spec"]["template"]["spec"]["containers"]
    assert "--lifetime-seconds" not in container["args"], "the default holds"
    page = " ".join((PROJECT / "docs/runbooks/GPUWebhookCertificateExpiring.md").read_text().split())
    assert f"has less than {CERTIFICATE_LEFT_SECONDS // DAY} days left" in page
    assert f"due when {left_seconds / DAY:g} days are left" in page


@pytest.mark.parametrize("certificates", ["self", "cert-manager"])
def test_prometheus_finds_the_replicas_where_they_are(certificates: str) -> None:
    """The pods' namespace, label and port's name, which a selector gets wrong in silence."""
    estate = example_on_webhook(certificates)
    webhook = next(one.manifest for one in render(estate).objects if one.address == "webhook")
    pod = webhook["spec"]["template"]
    jobs = yaml.safe_load(scrape_text(estate, Monitoring()))["scrape_configs"]
    (job,) = [job for job in jobs if job["job_name"] == "gpumem-injector"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == [webhook["metadata"]["namespace"]]
    (selector,) = discovery["selectors"]
    key, _, value = selector["label"].partition("=")
    assert pod["metadata"]["labels"][key] == value
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert f":{ports['metrics']}" in pod["spec"]["containers"][0]["args"]
