"""Plan and apply in order on the control plane: nvidia, then consumers, and what later plans show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.domain.estate.model import Estate
from helpers.domain.review.build import review_change
from helpers.rendering.estate_file import load_estate
from helpers.rendering.review import review_estates
from helpers.rendering.review_plan import renderings_of_plans
from helpers.services.live import tenant_states
from lab.cluster import Lab
from lab.terraform_run import TerraformRun
from lab.waiting import wait_for
from tests.terraform.conftest import EXAMPLE, estate_text

pytestmark = [pytest.mark.lab, pytest.mark.terraform]


@pytest.fixture(scope="module")
def applied(run: TerraformRun) -> TerraformRun:
    run.deploy("nvidia", "consumers")
    return run


def node_status(lab: Lab) -> dict[str, Any]:
    status: dict[str, Any] = lab.api().get("/api/v1/nodes")["items"][0]["status"]
    return status


def deployment(lab: Lab, namespace: str, name: str) -> dict[str, Any]:
    return lab.api().get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")


def container_limits(workload: dict[str, Any]) -> dict[str, str]:
    container = workload["spec"]["template"]["spec"]["containers"][0]
    limits: dict[str, str] = container.get("resources", {}).get("limits", {})
    return limits


def test_the_node_shows_14k_and_five_tenants_run(applied: TerraformRun, example_lab: Lab, estate: Estate) -> None:
    assert node_status(example_lab)["allocatable"]["viktorbarzin.me/gpumem"] == "14k"
    api = connect(example_lab.kubeconfig)

    def all_running() -> bool:
        return all(state.running_count == 1 for state in tenant_states(api, estate).values())

    wait_for(all_running)
    assert len(estate.tenants) == 5


@pytest.mark.parametrize("stack", ["nvidia", "consumers"])
def test_a_second_plan_is_empty(applied: TerraformRun, stack: str) -> None:
    plan = applied.plan(stack)
    assert plan.changes() == {}
    assert plan.is_empty


def test_foreign_workloads_carry_the_budget_and_nothing_else_of_ours(applied: TerraformRun, example_lab: Lab) -> None:
    found = deployment(example_lab, "immich", "immich-machine-learning")
    assert container_limits(found) == {"viktorbarzin.me/gpumem": "3k", "nvidia.com/gpu": "1"}
    owners = {entry["manager"] for entry in found["metadata"]["managedFields"] if entry["operation"] == "Apply"}
    assert owners == {"gpumem-budget"}


def test_a_changed_budget_of_a_foreign_workload_is_one_change_beside_the_gate(applied: TerraformRun) -> None:
    applied.estate_file.write_text(estate_text(**{"budget_mib: 3000": "budget_mib: 2900"}))
    try:
        applied.synth()
        plan = applied.plan("consumers")
    finally:
        applied.estate_file.write_text(EXAMPLE.read_text())
        applied.synth()
    changed = set(plan.changes())
    assert changed == {"null_resource.gate", "null_resource.budget-immich-ml"}
    shown = next(c for c in plan.document["resource_changes"] if c["address"] == "null_resource.budget-immich-ml")
    before, after = shown["change"]["before"]["triggers"], shown["change"]["after"]["triggers"]
    assert {key: (before[key], after[key]) for key in after if before[key] != after[key]} == {
        "budget_mib": ("3000", "2900")
    }


def test_a_review_of_the_plan_says_what_a_review_of_the_two_estates_says(applied: TerraformRun, tmp_path: Path) -> None:
    applied.estate_file.write_text(
        estate_text(**{"budget_mib: 5000": "budget_mib: 5600", "reserve_mib: 1360": "reserve_mib: 1260"})
    )
    try:
        applied.synth()
        plans = []
        for stack in ("nvidia", "consumers"):
            plans.append(tmp_path / f"{stack}.json")
            plans[-1].write_text(json.dumps(applied.plan(stack).document))
        after = ("after", load_estate(applied.estate_file)[0])
    finally:
        applied.estate_file.write_text(EXAMPLE.read_text())
        applied.synth()
    by_plan = review_change(*renderings_of_plans(plans, after))
    by_files = review_estates(("before", load_estate(EXAMPLE)[0]), after)
    assert by_plan.risk == "medium"
    assert by_plan.model_dump(exclude={"before"}) == by_files.model_dump(exclude={"before"})


def test_a_changed_budget_of_a_rendered_workload_is_one_change_beside_the_gate(applied: TerraformRun) -> None:
    applied.estate_file.write_text(estate_text(**{"budget_mib: 1500": "budget_mib: 1600"}))
    try:
        applied.synth()
        changed = applied.plan("consumers").changes()
    finally:
        applied.estate_file.write_text(EXAMPLE.read_text())
        applied.synth()
    assert changed == {
        "null_resource.gate": ("delete", "create"),
        "kubectl_manifest.tenant-portal-stt": ("update",),
    }


def test_a_rollout_of_every_tenant_on_the_full_card_completes(
    applied: TerraformRun, example_lab: Lab, estate: Estate
) -> None:
    """A surge of one pod would wait for ever on a card that is full (13300 of 14000)."""
    api = example_lab.api()
    plural = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
    for tenant in estate.tenants:
        path = f"/apis/apps/v1/namespaces/{tenant.namespace}/{plural[tenant.workload.kind]}/{tenant.workload.name}"
        stamp = {"spec": {"template": {"metadata": {"annotations": {"example.com/rolled": "1"}}}}}
        generation = api.patch(path, stamp)["metadata"]["generation"]

        def rolled(path: str = path, generation: int = generation) -> bool:
            status = api.get(path)["status"]
            seen = status.get("observedGeneration", 0) >= generation
            return bool(seen and status.get("updatedReplicas") == 1 and status.get("readyReplicas") == 1)

        wait_for(rolled)


def test_destroy_takes_the_capacity_off_and_leaves_foreign_workloads_alone(
    applied: TerraformRun, example_lab: Lab
) -> None:
    before = deployment(example_lab, "immich", "immich-server")
    applied.destroy("consumers")
    applied.destroy("nvidia")

    after = deployment(example_lab, "immich", "immich-server")
    assert container_limits(after) == {}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"]["spec"]["nodeSelector"] == before["spec"]["template"]["spec"]["nodeSelector"]
    assert not example_lab.api().exists("/apis/apps/v1/namespaces/portal/deployments/portal-stt")
    wait_for(lambda: "viktorbarzin.me/gpumem" not in node_status(example_lab)["capacity"])
    wait_for(lambda: "viktorbarzin.me/gpumem" not in node_status(example_lab)["allocatable"])
