"""What an estate with budgets as claims renders to, beside what the synth tests say of every rendering."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.budget import BudgetFields, budget_fields
from helpers.domain.capacity import CapacitySettings, capacity_settings
from helpers.domain.dra.claims import claim_template_name
from helpers.domain.dra.rights import dra_agent_rights
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.rendering.render import render
from tests.synth.estates import example, on_both_backends, on_claims


def objects(estate: Estate) -> dict[str, Any]:
    return {item.address: item.manifest for item in render(estate).objects}


def test_a_pod_has_its_card_from_the_claim_alone() -> None:
    pod = objects(on_claims())["tenant-ollama"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"] == {
        "claims": [{"name": "gpumem"}],
        "requests": {"memory": "16Gi"},
        "limits": {"memory": "32Gi"},
    }
    assert pod["resourceClaims"] == [{"name": "gpumem", "resourceClaimTemplateName": "gpumem-ollama-16000"}]


def test_a_template_asks_for_the_budget_of_one_card() -> None:
    (request,) = objects(on_claims())["claim-template-ollama"]["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"] == {
        "deviceClassName": "gpumem",
        "allocationMode": "ExactCount",
        "count": 1,
        "capacity": {"requests": {"memory": "16000Mi"}},
    }


def test_a_template_of_another_budget_or_model_has_another_name() -> None:
    estate = on_claims()
    tenant = estate.tenants[0]
    names = {
        claim_template_name(estate, tenant.model_copy(update=change))
        for change in ({}, {"budget_mib": 8000}, {"gpu_model": "Tesla T4"}, {"gpu_model": "NVIDIA A10"})
    }
    assert len(names) == 4


def test_a_model_is_chosen_by_the_publishers_own_attribute() -> None:
    estate = on_claims()
    tenant = estate.tenants[0].model_copy(update={"gpu_model": "NVIDIA GeForce RTX 3090"})
    for publisher, expression in (
        ("agent", 'device.attributes["gpu.gpumem.io"].model == "NVIDIA GeForce RTX 3090"'),
        ("nvidia", 'device.attributes["gpu.nvidia.com"].productName == "NVIDIA GeForce RTX 3090"'),
    ):
        budget = estate.budget.model_copy(update={"published_by": publisher})
        chosen = estate.model_copy(update={"budget": budget, "tenants": (tenant,)})
        (request,) = objects(chosen)["claim-template-ollama"]["spec"]["spec"]["devices"]["requests"]
        assert request["exactly"]["selectors"] == [{"cel": {"expression": expression}}]


def test_where_nvidias_driver_publishes_there_is_no_agent() -> None:
    estate = on_claims()
    nvidias = estate.model_copy(update={"budget": estate.budget.model_copy(update={"published_by": "nvidia"})})
    found = {address for address in objects(nvidias) if address.startswith("dra-agent")}
    assert not found
    (selector,) = objects(nvidias)["device-class"]["spec"]["selectors"]
    assert selector["cel"]["expression"] == (
        'device.driver == "gpu.nvidia.com" && device.allowMultipleAllocations == true'
    )


def test_no_number_is_kept_where_every_budget_is_a_claim() -> None:
    found = objects(on_claims())
    assert "capacity-cron-job" not in found
    assert "capacity-watch" not in found
    # A number that an earlier rendering put on the nodes is given back by this step.
    assert any(step.address == "capacity-assert" for step in render(on_claims()).steps)


def test_both_backends_live_on_different_nodes() -> None:
    estate = on_both_backends()
    settings = capacity_settings(estate)
    assert [node.name for node in settings.nodes] == ["old-node"]
    assert [(node.name, node.cards_mib) for node in settings.claim_nodes] == [("gpu-worker", (24000, 24000))]
    assert CapacitySettings.model_validate_json(settings.to_json()) == settings
    found = objects(estate)
    assert "capacity-cron-job" in found
    assert [address for address in found if address.startswith("dra-agent-node")] == ["dra-agent-node-gpu-worker"]


def test_an_estate_without_claims_renders_as_before() -> None:
    found = objects(example())
    assert not [address for address in found if address.startswith(("dra-", "device-class", "claim-"))]
    assert "claim" not in capacity_settings(example()).to_json()
    fields = budget_fields(example(), example().tenants[0])
    assert "claim_template" not in fields.to_triggers()
    assert BudgetFields.model_validate(fields.model_dump()) == fields


@pytest.mark.parametrize(("version", "is_claimed"), [("1.36", True), ("1.37", True), ("1.35", False)])
def test_auto_is_resolved_without_a_cluster(version: str, is_claimed: bool) -> None:
    estate = on_claims("auto")
    estate = estate.model_copy(update={"kubernetes": estate.kubernetes.model_copy(update={"version": version})})
    assert all(estate.uses_claims(node) == is_claimed for node in estate.nodes)


def test_shares_are_not_asked_for_with_a_claim() -> None:
    (entry,) = build_ledger(on_claims()).nodes
    assert entry.always_on_shares_count == 0
    assert entry.seated


def test_the_agent_keeps_the_declared_reserve_from_every_card() -> None:
    (container,) = objects(on_claims())["dra-agent-node-gpu-worker"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--reserve-by-model", "NVIDIA GeForce RTX 3090=576"]


def test_the_agent_has_its_rights_and_no_others() -> None:
    found = objects(on_claims())
    rules = [*found["dra-agent-cluster-role"]["rules"], *found["dra-agent-events-role"]["rules"]]
    assert sorted(map(str, rules)) == sorted(str(right.rule()) for right in dra_agent_rights())
