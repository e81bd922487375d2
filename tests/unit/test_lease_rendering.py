"""Leases as settings and as objects: who gets which right, and that nobody gets one where there are none."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.estate.model import Estate
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.domain.leases.settings import CardRule
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.objects import Rendered
from helpers.rendering.render import render
from tests.synth.estates import PROJECT

LEASES = """
  leases:
    tls_secret: leases-tls
    tenants:
      - {tenant: trainer, service_accounts: [trainer, notebooks]}
      - {tenant: ollama}
"""
TRAINER = """
  - name: trainer
    namespace: train
    workload: {kind: Deployment, name: trainer, container: main}
    node: desk-5439
    apply: patch
    budget_mib: 2000
    class: batch
    elastic: true
    strategy: {type: Recreate}
"""


@pytest.fixture(scope="module")
def estate() -> Estate:
    text = (PROJECT / "estates/rtx2060super.yaml").read_text()
    text = text.replace("  ignored: [", "    - {name: night, class: batch, tenant: trainer}\n  ignored: [")
    text = text.replace("  retry_after_seconds: 30\n", f"  retry_after_seconds: 30{LEASES}", 1)
    return parse_estate(text + TRAINER, "estate.yaml")[0]


@pytest.fixture(scope="module")
def rendered(estate: Estate) -> Rendered:
    return render(estate)


def manifest(rendered: Rendered, address: str) -> Any:
    (found,) = [item.manifest for item in rendered.wave(2).objects if item.address == address]
    return found


def test_the_settings_hold_card_promise_exporter_and_holders(estate: Estate) -> None:
    settings = coordinator_settings(estate)
    assert settings is not None
    assert settings.leases is not None
    (node,) = settings.leases.nodes
    assert (node.node, node.floor_mib) == ("desk-5439", 800)
    assert node.exporter_url == "http://192.168.10.100:9836/metrics"
    assert node.cards == (CardRule(gpu_index=0, advertised_mib=7500, promised_mib={"ollama": 5120}),)
    assert [(one.tenant, one.namespace, one.room_mib) for one in settings.leases.holders] == [
        ("trainer", "train", 2000), ("ollama", "ai", 5120),
    ]  # fmt: skip
    assert settings.leases.lane_nodes == {"ollama": "desk-5439"}
    assert CoordinatorSettings.model_validate_json(settings.to_json()) == settings
    (night,) = [rule for rule in settings.lanes if rule.name == "night"]
    assert night.need_mib == 0


def test_holders_get_a_role_about_their_own_tenant_and_no_other(rendered: Rendered) -> None:
    role = manifest(rendered, "lease-role-trainer")
    assert role["metadata"]["namespace"] == "train"
    assert role["rules"] == [
        {
            "apiGroups": ["gpumem.io"],
            "resources": ["leases"],
            "verbs": ["create", "get", "list", "update", "delete"],
            "resourceNames": ["trainer"],
        }
    ]
    subjects = manifest(rendered, "lease-role-binding-trainer")["subjects"]
    assert [(one["name"], one["namespace"]) for one in subjects] == [("trainer", "train"), ("notebooks", "train")]
    assert [one["name"] for one in manifest(rendered, "lease-role-binding-ollama")["subjects"]] == ["default"]


def test_the_coordinator_may_ask_who_callers_are_and_write_events_in_their_namespaces(rendered: Rendered) -> None:
    rules = manifest(rendered, "coordinator-cluster-role")["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["nodes"], ["list"]),  # the engine's, whose node is watched
        (["tokenreviews"], ["create"]),
        (["subjectaccessreviews"], ["create"]),
    ]
    for namespace in ("train", "ai"):
        role = manifest(rendered, f"lease-events-role-{namespace}")
        assert role["metadata"]["namespace"] == namespace
        assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [(["events"], ["create"])]


def test_the_pod_serves_leases_with_the_secrets_certificate(rendered: Rendered) -> None:
    pod = manifest(rendered, "coordinator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][-4:] == ["--lease-address", ":9414", "--lease-tls", "/etc/gpumem-leases-tls"]
    assert {"name": "leases-tls", "secret": {"secretName": "leases-tls"}} in pod["volumes"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"metrics": 9413, "leases": 9414}
    service = manifest(rendered, "coordinator-service")
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"metrics": 9413, "leases": 9414}
