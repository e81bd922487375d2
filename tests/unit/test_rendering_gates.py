"""Demand gates as objects: rights by name, ScaledObjects, and replicas that begin at 0."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.domain.demand_gates.rules import release_note
from helpers.domain.estate.model import Estate
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.rendering.render import render
from tests.fakes.gates import guide_estate

KEDA = {
    "  demand_gates:\n": '  keda: {prometheus_url: "http://prometheus.monitoring:9090/", polling_seconds: 5}\n'
    "  demand_gates:\n",
    "      tenant: vllm\n": "      tenant: vllm\n      engine: keda\n      lane: jobs\n"
    "      close_after_seconds: 90.5\n",
    "  engines:\n": "  lanes: [{name: jobs, queues: [q], class: batch, tenant: vllm, vram_mib: 8000}]\n  engines:\n",
}


def objects(estate: Estate) -> dict[str, Any]:
    return {item.address: item.manifest for item in render(estate).wave(2).objects}


@pytest.fixture(scope="module")
def with_keda() -> Estate:
    return guide_estate(**KEDA)


def test_the_coordinator_is_told_its_gates_and_reads_them_back() -> None:
    estate = guide_estate()
    settings = coordinator_settings(estate)
    assert settings is not None
    assert [(rule.name, rule.need_mib, rule.opens_at_mib, rule.close_free_mib) for rule in settings.gates] == [
        ("vllm", 8600, 8600 + 1280, 1024),
        ("plex", 4000, 4000 + 1280, 1024),
        ("training", 9000, 9000 + 1280, 1024),
    ]
    assert CoordinatorSettings.model_validate_json(settings.to_json()) == settings


def test_each_namespace_has_a_role_that_names_its_gated_workloads_and_no_others() -> None:
    found = objects(guide_estate())
    roles = {item["metadata"]["namespace"]: item["rules"] for key, item in found.items() if key.startswith("gate-role-")
             and item["kind"] == "Role"}  # fmt: skip
    assert set(roles) == {"ai-dev", "media"}
    named = {(rule["resources"][0], tuple(rule["verbs"])): rule.get("resourceNames") for rule in roles["ai-dev"]}
    assert named == {
        ("deployments", ("get",)): ["training", "vllm-server"],
        ("deployments/scale", ("patch",)): ["training", "vllm-server"],
        ("pods", ("list",)): None,
        ("events", ("create",)): None,
    }
    assert "*" not in json.dumps(roles)


def test_the_roles_are_bound_to_the_coordinators_own_account() -> None:
    found = objects(guide_estate())
    (subject,) = found["gate-role-binding-media"]["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "gpumem-coordinator", "namespace": "gpu-system"}


def test_without_gates_there_is_no_role_in_a_tenants_namespace(with_keda: Estate) -> None:
    assert "gate-role-ai-dev" in objects(with_keda)  # training's
    only_keda = with_keda.model_copy(
        update={
            "coordinator": with_keda.coordinator.model_copy(  # type: ignore[union-attr]
                update={"demand_gates": with_keda.coordinator.demand_gates[:1]}  # type: ignore[union-attr]
            )
        }
    )
    assert not [key for key in objects(only_keda) if key.startswith("gate-role")]


def test_a_scaled_object_joins_room_work_and_hours_in_one_formula(with_keda: Estate) -> None:
    found = objects(with_keda)["scaled-object-vllm"]
    assert found["metadata"]["namespace"] == "ai-dev"
    spec = found["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm-server"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 1)
    assert (spec["pollingInterval"], spec["cooldownPeriod"]) == (5, 91)
    modifiers = spec["advanced"]["scalingModifiers"]
    assert modifiers["formula"] == "room > 0 && work > 0 && (window0 >= 2) ? 1 : 0"
    room, work, window = spec["triggers"]
    assert [one["name"] for one in spec["triggers"]] == ["room", "work", "window0"]
    assert room["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert work["metadata"]["query"] == 'max(gpumem_coordinator_lane_demand_jobs{lane="jobs"})'
    assert {one["metadata"]["ignoreNullValues"] for one in (room, work)} == {"false"}
    assert window["metadata"] == {
        "timezone": "Europe/Berlin",
        "start": "0 8 * * 1,2,3,4,5",
        "end": "0 18 * * 1,2,3,4,5",
        "desiredReplicas": "2",
    }


def test_every_value_of_a_triggers_metadata_is_text(with_keda: Estate) -> None:
    """KEDA's schema is a map of strings: a number would be refused."""
    for trigger in objects(with_keda)["scaled-object-vllm"]["spec"]["triggers"]:
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_a_dry_run_is_a_paused_scaled_object(with_keda: Estate) -> None:
    assert "annotations" not in objects(with_keda)["scaled-object-vllm"]["metadata"]
    dry = guide_estate(**KEDA | {"dry_run: false": "dry_run: true"})
    found = objects(dry)["scaled-object-vllm"]["metadata"]
    assert found["annotations"] == {"autoscaling.keda.sh/paused": "true"}


def test_who_releases_what_keda_scales_is_told_to_pause_it_by_its_name(with_keda: Estate) -> None:
    command = "kubectl -n ai-dev annotate scaledobject gpumem-vllm autoscaling.keda.sh/paused=true"
    assert command in release_note(with_keda, "vllm")
    assert objects(with_keda)["scaled-object-vllm"]["metadata"]["name"] == "gpumem-vllm"
    assert release_note(with_keda, "plex") == ""


def test_the_coordinator_leaves_to_keda_what_is_kedas(with_keda: Estate) -> None:
    settings = coordinator_settings(with_keda)
    assert settings is not None
    assert [rule.name for rule in settings.gates] == ["plex", "training"]


@pytest.mark.parametrize(("dry_run", "replicas"), [("false", "0"), ("true", "1")])
def test_a_rendered_tenant_begins_at_zero_unless_its_gate_only_watches(dry_run: str, replicas: str) -> None:
    pod = "    pod: {containers: [{name: training, image: 'registry.example.com/training:1.0.0'}]}\n"
    last = "    budget_mib: 9000\n"
    estate = guide_estate(
        **{
            last: last + pod,
            "name: training, container: training}\n    node: homelabai\n    apply: patch": "name: training, container: "
            "training}\n    node: homelabai\n    apply: create",
            "      tenant: training\n      dry_run: false": f"      tenant: training\n      dry_run: {dry_run}",
        }
    )
    (step,) = [step for step in render(estate).steps if step.address == "replicas-training"]
    assert step.triggers["replicas"] == replicas


def test_no_two_objects_of_the_coordinator_are_one(with_keda: Estate) -> None:
    """Roles for gates, leases and release hooks may lie in one namespace."""
    found = [item.manifest for item in render(with_keda).wave(2).objects]
    keys = [(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in found]
    assert len(set(keys)) == len(keys)
    assert ("Role", "media", "gpumem-coordinator-gates") in keys
