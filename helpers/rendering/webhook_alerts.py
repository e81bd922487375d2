"""The alerts about the admission webhook, for estates whose engine it is."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.estate.monitoring import JOB_INJECTOR
from helpers.rendering import monitoring_queries as q
from helpers.rendering.alert import Alert

# Beyond a change of replicas; a rollout takes none away before its successor is ready.
WEBHOOK_FOR_SECONDS = 60
# The next certificate, self-made or cert-manager's, is due when 30 days are left; half of them were in vain.
CERTIFICATE_LEFT_SECONDS = 15 * 24 * 3600
# Beyond the moment that a cluster needs that was switched off for so long.
CERTIFICATE_FOR_SECONDS = 300


def webhook_alerts() -> tuple[Alert, ...]:
    """About the injector's replicas and the certificate that they serve."""
    return (_webhook_down(), _certificate_expiring())


def _webhook_down() -> Alert:
    ready, scraped = f"max({q.INJECTOR_READY})", f'max(up{{job="{JOB_INJECTOR}"}})'
    deployment = f'namespace="{GPU_SYSTEM_NAMESPACE}", deployment="{names.WEBHOOK_SERVICE}"'
    parts = [
        ("not_ready", f"{ready} == 0"),
        # Ready by itself, and the kubelet sees it otherwise: API servers are sent to nobody.
        ("not_available", f"max({q.AVAILABLE_REPLICAS}{{{deployment}}}) == 0 and on () {ready} == 1"),
        ("scrape_failed", f"{scraped} == 0"),
        ("absent", f"absent({q.INJECTOR_READY}) unless on () {scraped} == 0"),
    ]
    return Alert(
        "GPUWebhookDown",
        q.with_cause(parts),
        "critical",
        "No replica of the GPU webhook is known to answer.",
        "Cause {{ $labels.cause }}. Without an answer no pod is created that carries the annotation or asks for a GPU, "
        "the successor of a recycled one neither; others do not notice.",
        for_seconds=WEBHOOK_FOR_SECONDS,
    )


def _certificate_expiring() -> Alert:
    return Alert(
        "GPUWebhookCertificateExpiring",
        # 0 is a replica that serves none yet; if no other does, GPUWebhookDown says so.
        f"min({q.CERTIFICATE_END} > 0) - time() < {CERTIFICATE_LEFT_SECONDS}",
        "warning",
        "The certificate of the GPU webhook is not renewed.",
        "{{ $value | humanizeDuration }} are left, on the replica with the oldest one; "
        "after that API servers trust it no longer, and pods that ask for a GPU are not created.",
        for_seconds=CERTIFICATE_FOR_SECONDS,
    )
