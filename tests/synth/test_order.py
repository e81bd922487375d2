"""Who waits for whom, read from what Terraform gets."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from helpers.domain.estate.model import Estate
from tests.synth.conftest import Stacks
from tests.synth.estates import SHIPPED, shipped

GATE = "null_resource.gate"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nothing_of_the_consumers_is_touched_before_the_gate(path, synth: Callable[[Estate], Stacks]) -> None:  # type: ignore[no-untyped-def]
    before = synth(shipped(path)).depends_on("consumers")
    assert before.pop(GATE) == set()
    assert before
    assert {address for address, earlier in before.items() if GATE not in earlier} == set()


def test_the_consumers_stack_is_deployed_after_the_nvidia_stack(example_stacks: Stacks) -> None:
    manifest = json.loads((example_stacks.outdir / "manifest.json").read_text())
    assert manifest["stacks"]["consumers"]["dependencies"] == ["nvidia"]
    assert manifest["stacks"]["nvidia"]["dependencies"] == []


def test_the_coordinator_is_deployed_after_the_consumers(synth: Callable[[Estate], Stacks]) -> None:
    (path,) = [path for path in SHIPPED if shipped(path).coordinator is not None]
    manifest = json.loads((synth(shipped(path)).outdir / "manifest.json").read_text())
    assert manifest["stacks"]["platform"]["dependencies"] == ["consumers"]


def test_what_jobs_stand_on_is_made_in_an_order_that_can_work(synth: Callable[[Estate], Stacks]) -> None:
    (path,) = [path for path in SHIPPED if shipped(path).manager is not None]
    stacks = synth(shipped(path))
    manifest = json.loads((stacks.outdir / "manifest.json").read_text())
    assert manifest["stacks"]["platform"]["dependencies"] == ["consumers"]
    before = stacks.depends_on("platform")
    assert "kubectl_manifest.node-class-gpu" in before["kubectl_manifest.node-pool-gpu-t4"]
    assert "kubectl_manifest.node-pool-gpu-t4" in before["kubectl_manifest.node-overlay-t4-pool"]
    for address, body in stacks.manifests("platform").items():
        if body["metadata"].get("namespace") == "vision":
            assert "kubectl_manifest.project-namespace-vision" in before[address], address


def test_destroy_stops_the_workers_before_it_takes_the_key_away(example_stacks: Stacks) -> None:
    """Terraform destroys in reverse, so what must end first depends on what must end last."""
    before = example_stacks.depends_on("nvidia")
    for worker in ("kubectl_manifest.capacity-cron-job", "kubectl_manifest.capacity-watch"):
        assert "null_resource.capacity-release" in before[worker]
        assert "null_resource.capacity-assert" in before[worker]
    assert "null_resource.capacity-release" in before["null_resource.capacity-assert"]


def test_a_refused_number_does_not_reach_those_that_would_go_on_trying(example_stacks: Stacks) -> None:
    assert "null_resource.capacity-assert" in example_stacks.depends_on("nvidia")["kubectl_manifest.capacity-config"]


def test_destroy_gives_a_foreign_budget_back_with_what_its_triggers_hold(example_stacks: Stacks) -> None:
    steps = dict(example_stacks.resources("consumers"))
    unset = steps["null_resource.unset-budget-immich-ml"]
    local_exec = unset["provisioner"][0]["local-exec"]
    assert local_exec["when"] == "destroy"
    assert local_exec["interpreter"] == ["gpumem", "budget", "unset"]
    assert local_exec["environment"] == {"GPUMEM_STEP": "${jsonencode(self.triggers)}"}
    assert set(unset["triggers"]) == {"tenant", "namespace", "kind", "workload"}
    assert "when" not in steps["null_resource.budget-immich-ml"]["provisioner"][0]["local-exec"]


def test_nothing_waits_for_a_rollout(example_stacks: Stacks) -> None:
    for stack in example_stacks.documents:
        for address, body in example_stacks.resources(stack):
            if address.startswith("kubectl_manifest."):
                assert body["wait_for_rollout"] is False, address
                assert body["server_side_apply"] is True, address
                assert body["field_manager"] == "gpumem-terraform", address


def test_namespaces_outlive_the_stacks(example_stacks: Stacks) -> None:
    for stack in example_stacks.documents:
        bodies = dict(example_stacks.resources(stack))
        for address, manifest in example_stacks.manifests(stack).items():
            if manifest["kind"] == "Namespace":
                assert bodies[address]["apply_only"] is True, address


def test_no_step_goes_through_a_shell(example_stacks: Stacks) -> None:
    """Field fault 2: a provisioner's `set -o pipefail` failed wherever `sh` is dash."""
    steps = [
        body["provisioner"][0]["local-exec"]
        for stack in example_stacks.documents
        for address, body in example_stacks.resources(stack)
        if address.startswith("null_resource.")
    ]
    assert len(steps) == 10
    for step in steps:
        assert step["interpreter"][0].rpartition("/")[2] == "gpumem"
        assert step["command"] == "--step"
