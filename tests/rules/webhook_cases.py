"""Cases of the alerts about the admission webhook, on an estate that has it."""

from __future__ import annotations

from helpers.domain.watchdog.settings import watchdog_settings
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules
from tests.synth.estates import example_on_webhook

DAY = 24 * 3600


def webhook_rules() -> Rules:
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
WEBHOOK_CASES = (*DOWN, *EXPIRING)
