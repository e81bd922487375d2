"""The watchdog where budgets are claims: the card comes from the scheduler's own allocation, by the real program."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.domain.dra.claims import with_claim
from helpers.domain.dra.naming import DEVICE_CLASS, DRIVER, INDEX_ATTRIBUTE
from helpers.domain.dra.slice_document import API_VERSION, memory_quantity
from helpers.domain.watchdog.rights import watchdog_rights
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings
from lab.cluster import Lab, LabNode
from lab.incident import grant, watchdog
from lab.small_exporter import LabExporter, lab_exporter
from lab.waiting import wait_for
from tests.lab.dra_scene import cards_of, make_device_class, owned_deployment, publish

pytestmark = pytest.mark.lab

NODE, NAMESPACE = "watchdog-claims", "watchdog-claims"
DRIVER_ARGUMENT = ("--claims-driver", DRIVER)
# Tenant: the card that its claim is on, what it claims of it, and what it holds of the card that is looked at, MiB.
TENANTS = {"stays": (0, 12000, 9000), "strays": (1, 9000, 4500)}
VERBS = sorted(
    f"{verb} {right.resource}"
    for right in watchdog_rights(claims=True)
    if right not in watchdog_rights()
    for verb in right.verbs
)


def template(name: str, card: int, mib: int) -> dict[str, Any]:
    chosen = {"cel": {"expression": f'device.attributes["{DRIVER}"].{INDEX_ATTRIBUTE} == {card}'}}
    capacity = {"requests": {"memory": memory_quantity(mib)}}
    exactly = {"deviceClassName": DEVICE_CLASS, "selectors": [chosen], "capacity": capacity}
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpumem", "exactly": exactly}]}}},
    }


def pods(lab: Lab) -> dict[str, dict[str, Any]]:
    """`{tenant: pod}` of those that run."""
    found = lab.api().get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return {
        pod["metadata"]["labels"]["app"]: pod
        for pod in found
        if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


@pytest.fixture(scope="module")
def exporter(lab: Lab) -> Iterator[LabExporter]:
    """Two cards, of which the exporter shows the first; both tenants hold memory of it."""
    lab.node_add(LabNode(NODE, {"gpumem-test": NODE}, {}, "bare"))
    cluster = connect(lab.kubeconfig)
    make_device_class(cluster)
    publish(cluster, NODE, (14000, 14000), ["Tesla T4"] * 2)
    lab.api().post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for name, (card, mib, used_mib) in TENANTS.items():
        cluster.apply(template(name, card, mib), field_manager="test")
        deployment = owned_deployment(NAMESPACE, name, "main", {"nodeSelector": {"gpumem-test": NODE}})
        pod = deployment["spec"]["template"]
        pod["metadata"]["annotations"] = {"lab.gpumem.io/used-mib": str(used_mib)}
        pod["spec"] = with_claim(pod["spec"], "main", name)
        cluster.apply(deployment, field_manager="test")
    try:
        wait_for(lambda: set(pods(lab)) == set(TENANTS))
        with lab_exporter(NODE, lab.read_usage) as exporter:
            exporter.interval_seconds = 0.2
            yield exporter
    finally:
        lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}")
        lab.node_remove(NODE)


def settings() -> WatchdogSettings:
    rules = [
        TenantRule(name=name, namespace=NAMESPACE, kind="Deployment", workload=name, container="main")
        for name in TENANTS
    ]
    quick = {"interval_seconds": 1.0, "confirm_seconds": 0.5}
    return WatchdogSettings.model_validate({"floor_mib": 1536, "dry_run": False, "tenants": rules} | quick)


def events(lab: Lab, reason: str) -> list[str]:
    found = lab.api().get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    return [str(one["message"]) for one in found if one["reason"] == reason]


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_for_claims_is_needed(verb: str, lab: Lab, exporter: LabExporter, tmp_path: Path) -> None:
    home = f"watchdog-claims-{verb.replace(' ', '-')}"
    kubeconfig = grant(lab, home, claims=True, without=verb)
    idle = settings().model_copy(update={"dry_run": True})
    with watchdog(
        tmp_path, kubeconfig, idle, [exporter.target], namespace=home, wait=False, arguments=DRIVER_ARGUMENT
    ) as running:
        assert running.process.wait(40) == 1
        assert verb.split()[1] in running.lines("run_failed")[0]["reason"]


def test_who_uses_a_card_that_its_claim_is_not_on_is_over_budget_there(
    lab: Lab, exporter: LabExporter, tmp_path: Path
) -> None:
    """Both are within the sum of what they claim; by that alone nobody would be the offender."""
    before = pods(lab)
    seats = cards_of(connect(lab.kubeconfig), NAMESPACE)
    assert {name: seats[pod["metadata"]["name"]][1] for name, pod in before.items()} == {
        "stays": "gpu-0",
        "strays": "gpu-1",
    }
    kubeconfig = grant(lab, "watchdog-claims-home", claims=True)
    with watchdog(
        tmp_path,
        kubeconfig,
        settings(),
        [exporter.target],
        namespace="watchdog-claims-home",
        arguments=DRIVER_ARGUMENT,
    ) as running:
        wait_for(lambda: running.lines("recycle_finished"), instead=running.log.read_text)
        wait_for(partial(events, lab, "GpumemRecycling"))
    (text,) = events(lab, "GpumemRecycling")
    assert f"it holds 4500 MiB there with no claim on it but 9000 MiB on GPU-{NODE}-1, 4500 MiB over" in text
    assert pods(lab)["stays"]["metadata"]["uid"] == before["stays"]["metadata"]["uid"]
