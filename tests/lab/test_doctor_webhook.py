"""Doctor on an estate whose admission is the webhook: who answers, and whether API servers believe it."""

from __future__ import annotations

import pytest

from helpers.domain import names
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import Ward
from tests.fixtures.doctor_webhook import CONFIGURATION, endpoint, trust

pytestmark = pytest.mark.lab


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
