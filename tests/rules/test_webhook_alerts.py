"""The alerts about the admission webhook, under the real promtool, on an estate that has it."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
import pytest
import yaml

from helpers.adapters.injector_metrics import PrometheusInjectorMetrics
from helpers.apps.injector.settings import DEFAULT_LIFETIME_SECONDS
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring import scrape_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from helpers.rendering.render import render
from helpers.rendering.webhook_alerts import CERTIFICATE_LEFT_SECONDS, webhook_alerts
from lab.programs import Program
from tests.rules.card_cases import steady
from tests.rules.promtool import KINDS, Case, Firing, Rules, promtool_run, run_case
from tests.synth.estates import PROJECT, example_on_webhook

NAMES = ("GPUWebhookDown", "GPUWebhookCertificateExpiring")
DAY = 24 * 3600


def rules() -> Rules:
    estate = example_on_webhook()
    return Rules(estate, watchdog_settings(estate))


def ready(pod: str = "w-0", job: str = "gpumem-injector") -> str:
    return f'gpumem_injector_ready{{pod="{pod}", instance="{pod}:9412", job="{job}"}}'


def scraped(pod: str = "w-0", job: str = "gpumem-injector") -> str:
    return f'up{{pod="{pod}", instance="{pod}:9412", job="{job}"}}'


def available(instance: str = "ksm-0", deployment: str = "gpu-webhook", namespace: str = "gpu-system") -> str:
    labels = f'namespace="{namespace}", deployment="{deployment}", instance="{instance}"'
    return f"kube_deployment_status_replicas_available{{{labels}}}"


def ends(pod: str = "w-0", job: str = "gpumem-injector") -> str:
    return f'gpumem_injector_certificate_expiry_timestamp_seconds{{pod="{pod}", job="{job}"}}'


def down(cause: str) -> Firing:
    return Firing(
        {"cause": cause},
        "No replica of the GPU webhook is known to answer.",
        f"Cause {cause}. Without an answer no pod is created that carries the annotation or asks for a GPU, "
        "the successor of a recycled one neither; others do not notice.",
    )


def left(text: str) -> Firing:
    return Firing(
        {},
        "The certificate of the GPU webhook is not renewed.",
        f"{text} are left, on the replica with the oldest one; "
        "after that API servers trust it no longer, and pods that ask for a GPU are not created.",
    )


WELL = {ready("w-0"): steady(1), ready("w-1"): steady(1), scraped("w-0"): steady(1), scraped("w-1"): steady(1)}
DOWN = (
    Case("GPUWebhookDown", "silent", {**WELL, available(): steady(2)}, {"30m": ()}),
    Case(
        "GPUWebhookDown",
        "firing",
        {**WELL, ready("w-0"): "1+0x39 0+0x400", ready("w-1"): "1+0x19 0+0x400"},
        {"10m30s": (), "30m": (down("not_ready"),)},
    ),
    Case(
        "GPUWebhookDown",
        "duplicate series",
        {
            **{series: steady(0) for series in (ready("w-0"), ready("w-1"), ready("w-1", job="kubernetes-pods"))},
            **{series: steady(1) for series in (scraped("w-0"), scraped("w-1"))},
            **{series: steady(0) for series in (available("ksm-0"), available("ksm-1"))},
        },
        {"30m": (down("not_ready"),)},
    ),
    Case("GPUWebhookDown", "absent series", {}, {"30s": (), "30m": (down("absent"),)}),
    Case(
        "GPUWebhookDown",
        "one ready replica of two is enough, and its fellow may be gone or without a certificate",
        {ready("w-0"): steady(1), scraped("w-0"): steady(1), ready("w-1"): steady(0), scraped("w-2"): steady(0)},
        {"30m": ()},
    ),
    Case(
        "GPUWebhookDown",
        "replicas that crash again and again cannot be scraped",
        {scraped("w-0"): steady(0), scraped("w-1"): steady(0), available(): steady(0)},
        {"30m": (down("scrape_failed"),)},
    ),
    Case(
        "GPUWebhookDown",
        "scaled to zero: first stale, then absent",
        {ready(): "1+0x20 stale", scraped(): "1+0x20 stale", available(): "1+0x20 0+0x400"},
        {"5m": (), "30m": (down("absent"),)},
    ),
    Case(
        "GPUWebhookDown",
        "ready by themselves, and the kubelet sends nobody there",
        {**WELL, available("ksm-0"): steady(0), available("ksm-1"): steady(0)},
        {"30m": (down("not_available"),)},
    ),
    Case(
        "GPUWebhookDown",
        "other Deployments without replicas are none of ours",
        {
            **WELL,
            available(): steady(2),
            available(deployment="another"): steady(0),
            available(namespace="another"): steady(0),
        },
        {"30m": ()},
    ),
    Case(
        "GPUWebhookDown",
        "an image that does not show whether it is ready",
        {scraped(): steady(1)},
        {"30m": (down("absent"),)},
    ),
    Case(
        "GPUWebhookDown",
        "not ready for half a minute",
        {**WELL, **dict.fromkeys((ready("w-0"), ready("w-1")), "1+0x8 0+0x2 1+0x400")},
        {"2m45s": (), "3m15s": (), "10m": ()},
    ),
)
EXPIRING = (
    Case("GPUWebhookCertificateExpiring", "silent", {ends(): steady(16 * DAY)}, {"30m": ()}),
    Case(
        "GPUWebhookCertificateExpiring",
        "firing",
        # The alert's limit is passed after ten minutes.
        {ends(): steady(15 * DAY + 600), ends("w-1"): steady(90 * DAY)},
        {"14m": (), "30m": (left("14d 23h 40m 0s"),)},
    ),
    Case(
        "GPUWebhookCertificateExpiring",
        "duplicate series",
        {
            ends(): steady(2 * DAY),
            ends(job="kubernetes-pods"): steady(2 * DAY),
            ends("w-1"): steady(3 * DAY),
        },
        {"30m": (left("1d 23h 30m 0s"),)},
    ),
    Case("GPUWebhookCertificateExpiring", "absent series", {}, {"30m": ()}),
    Case("GPUWebhookCertificateExpiring", "one that has ended", {ends(): steady(600)}, {"30m": (left("-20m 0s"),)}),
    Case(
        "GPUWebhookCertificateExpiring",
        "a new replica that has none yet",
        {ends(): steady(0), ends("w-1"): steady(90 * DAY)},
        {"30m": ()},
    ),
    Case(
        "GPUWebhookCertificateExpiring",
        "renewed within minutes, as after a long time switched off",
        {ends(): f"{60}+0x8 {90 * DAY}+0x400"},
        {"2m": (), "30m": ()},
    ),
)
CASES = (*DOWN, *EXPIRING)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_exactly_when_it_should(case: Case, promtool: Program, tmp_path: Path) -> None:
    verdict = run_case(promtool, case, rules(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("case", [case for case in CASES if case.kind in ("firing", "silent")], ids=str)
def test_the_check_itself_sees_the_opposite(case: Case, promtool: Program, tmp_path: Path) -> None:
    """Negative control: with nothing expected a firing case fails, with something expected a silent one does."""
    assert run_case(promtool, case.opposite(), rules(), tmp_path).returncode != 0


def test_every_alert_has_a_case_of_every_kind() -> None:
    assert tuple(alert.name for alert in webhook_alerts()) == NAMES
    for name in NAMES:
        assert {case.kind for case in CASES if case.alert == name} >= set(KINDS)


def test_an_estate_whose_api_server_runs_the_rules_has_none_of_them() -> None:
    for one in (Rules.of_example(), rules()):
        found = {alert.name for alert in monitoring_alerts(one.estate, one.settings, one.monitoring)}
        jobs = {job["job_name"] for job in yaml.safe_load(scrape_text(one.estate, one.monitoring))["scrape_configs"]}
        expected = one.estate.kubernetes.version == "1.34"
        assert (set(NAMES) <= found, not found.isdisjoint(NAMES), "gpumem-injector" in jobs) == (expected,) * 3


def test_promtool_finds_no_fault_in_the_rules(promtool: Program, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules().text())
    verdict = promtool_run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


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
    jobs = yaml.safe_load(scrape_text(estate, rules().monitoring))["scrape_configs"]
    (job,) = [job for job in jobs if job["job_name"] == "gpumem-injector"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == [webhook["metadata"]["namespace"]]
    (selector,) = discovery["selectors"]
    key, _, value = selector["label"].partition("=")
    assert pod["metadata"]["labels"][key] == value
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert f":{ports['metrics']}" in pod["spec"]["containers"][0]["args"]
