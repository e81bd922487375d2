"""Doctor on an estate whose admission is the webhook: who answers, and whether API servers believe it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from helpers.domain import names
from helpers.rendering.render import render
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import Ward
from tests.synth.estates import EXAMPLE

pytestmark = pytest.mark.lab

CONFIGURATION = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{names.WEBHOOK_CONFIGURATION}"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/gpu-system/endpointslices"
DAY_SECONDS = 86400.0


def trust(ward: Ward, days: float | None) -> None:
    """Plays the injector's leader: writes the caBundle, one that ends in so many days. None: an empty one."""
    issued = ward.certificates.issue(
        frozenset({"gpu-webhook.gpu-system.svc"}),
        now_at=datetime.now(UTC) - timedelta(days=80),
        lifetime_seconds=(80 + (days or 0)) * DAY_SECONDS,
    )
    bundle = None if days is None else base64.b64encode(issued.authority.pem.encode()).decode()
    found = ward.lab.api().get(CONFIGURATION)
    for one in found["webhooks"]:
        one["clientConfig"] |= {"caBundle": bundle}
    ward.patch(CONFIGURATION, {"webhooks": found["webhooks"]})


def endpoint(ward: Ward, *, ready: bool) -> None:
    """The endpoint controller's part: on the lab pods have loopback addresses, which it refuses to write."""
    labels = {"kubernetes.io/service-name": names.WEBHOOK_SERVICE}
    manifest = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "webhook-by-hand", "namespace": "gpu-system", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "webhook", "port": 8443}],
        "endpoints": [{"addresses": ["10.211.0.9"], "conditions": {"ready": ready}}],
    }
    ward.cluster.apply(manifest, field_manager="lab", force=True)


@pytest.fixture
def webhook(ward: Ward) -> Iterator[Ward]:
    """The webhook's own objects beside the policies, all well; all of it is gone afterwards."""
    ward.file.write_text(EXAMPLE.read_text().replace("engine: auto #", "engine: webhook #"))
    mine = [item.manifest for item in render(ward.estate).objects if item.component == "admission"]
    ward.run("kubectl create namespace gpu-system")  # stays: others may live in it
    try:
        for manifest in mine:
            ward.cluster.apply(manifest, field_manager=names.FIELD_MANAGER_TERRAFORM)
        trust(ward, 60)
        endpoint(ward, ready=True)
        wait_for(ward.settled)
        yield ward
    finally:
        for manifest in reversed(mine):
            where = f"-n {manifest['metadata']['namespace']}" if "namespace" in manifest["metadata"] else ""
            ward.run(f"kubectl delete {where} {manifest['kind']} {manifest['metadata']['name']} --wait=false")
        ward.lab.api().delete(f"{SLICES}/webhook-by-hand")
        ward.calm()


def ids(ward: Ward) -> list[str]:
    return [one.id for one in ward.findings()]


def test_each_fault_of_the_webhook_is_found_alone_and_gone(webhook: Ward) -> None:
    assert webhook.findings() == ()
    count = len(webhook.lab.api().get(CONFIGURATION)["webhooks"])

    for days, found in ((None, "webhook-ca-empty"), (-1.0, "webhook-ca-expired"), (5.0, "webhook-ca-expiring")):
        trust(webhook, days)
        assert ids(webhook) == [found] * count
        trust(webhook, 60)
        assert ids(webhook) == []

    done = webhook.run("kubectl -n gpu-system scale deployment/gpu-webhook --replicas=0")
    assert done.returncode == 0
    endpoint(webhook, ready=False)
    (one,) = webhook.findings()
    assert one.id == "webhook-no-endpoints"
    assert "Deployment gpu-system/gpu-webhook: 0 of 0 replicas are ready" in one.evidence
    assert webhook.run(one.command).returncode == 0
    endpoint(webhook, ready=True)
    wait_for(lambda: not ids(webhook))

    for command, found in (
        (f"kubectl delete mutatingwebhookconfiguration {names.WEBHOOK_CONFIGURATION}", "webhook-configuration-absent"),
        ("kubectl -n gpu-system delete deployment gpu-webhook", "webhook-absent"),
    ):
        assert webhook.run(command).returncode == 0
        (one,) = webhook.findings()
        assert one.id == found
        assert webhook.run(one.command).returncode == 0
        trust(webhook, 60)
        wait_for(lambda: not ids(webhook))
