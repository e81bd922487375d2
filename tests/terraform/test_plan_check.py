"""Plan checks on what terraform really plans for the stacks; no cluster answers, as in a pull request."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.plan_policy.check import check_plans
from helpers.rendering.plan_file import parse_plan
from lab.policy_tools import OPA
from lab.standins.install import ProviderChoice
from lab.terraform_run import TerraformRun
from lab.toolchain import built_module
from tests.terraform.conftest import EXAMPLE, estate_text

pytestmark = pytest.mark.terraform

STACKS = ("nvidia", "consumers")
Documents = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def offline(
    providers: ProviderChoice, terraform_program: str, tmp_path_factory: pytest.TempPathFactory
) -> TerraformRun:
    work_dir = tmp_path_factory.mktemp("plan-check")
    copy = work_dir / "gpumem.yaml"
    shutil.copy(EXAMPLE, copy)
    lazy = {"KUBE_LAZY_LOAD": "true"}
    run = TerraformRun(work_dir, copy, work_dir / "no-kubeconfig", providers, terraform_program, lazy)
    run.synth()
    for stack in STACKS:
        run.init(stack)
    return run


@pytest.fixture(scope="module")
def first(offline: TerraformRun) -> Documents:
    """The plans of an estate of which nothing is applied yet."""
    return {stack: dict(offline.plan(stack).document) for stack in STACKS}


@pytest.fixture(scope="module")
def changed(offline: TerraformRun, first: Documents) -> Callable[..., Documents]:
    """One stack's plan after an edit, where all of `first` is in the state."""
    for stack in STACKS:
        state = offline.work_dir / f"terraform.{stack}.tfstate"
        state.write_text(json.dumps(applied(first[stack])))

    def plan(stack: str, **replacements: str) -> Documents:
        offline.estate_file.write_text(estate_text(**replacements))
        offline.synth()
        return {stack: dict(offline.plan(stack, "-refresh=false").document)}

    return plan


def applied(document: dict[str, Any]) -> dict[str, Any]:
    """The state that an apply of a plan would leave, but for what only a cluster tells."""
    resources = [
        {
            **{key: one[key] for key in ("mode", "type", "name")},
            "provider": f'provider["{one["provider_name"]}"]',
            "instances": [
                {"schema_version": one["schema_version"], "attributes": {"id": one["name"], **one["values"]}}
            ],
        }
        for one in document["planned_values"]["root_module"]["resources"]
    ]
    return {"version": 4, "terraform_version": "1.0.0", "serial": 1, "lineage": "plan-check", "resources": resources}


def verdict(documents: Documents, *order: str, allow: tuple[str, ...] = ()) -> list[str]:
    plans = [parse_plan(documents[stack], stack) for stack in order or STACKS]
    return [f"{one.plan} {one.rule_id} {one.address}" for one in check_plans(plans, allow).findings]


def test_the_examples_first_plans_break_no_rule(first: Documents) -> None:
    assert verdict(first) == []


def test_the_other_order_is_refused(first: Documents) -> None:
    assert verdict(first, "consumers", "nvidia") == ["nvidia capacity-before-consumers null_resource.capacity-assert"]


def test_opa_says_the_same_of_them(first: Documents, tmp_path: Path) -> None:
    found = built_module(OPA)
    if found is None:
        pytest.skip("Open Policy Agent is not built here (two minutes, once): python -m lab.prepare")
    assert cli.run(["plan-check", "--export", "rego", "--output-dir", str(tmp_path / "rules")]) == 0
    (tmp_path / "plans.json").write_text(
        json.dumps([{"path": f"{place}-{stack}", "contents": first[stack]} for place, stack in enumerate(STACKS)])
    )
    files: tuple[str | Path, ...] = ("--data", tmp_path / "rules", "--input", tmp_path / "plans.json")
    command = [found["opa"], "eval", *files, "--format", "raw", "data.main.deny"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == []


def test_a_changed_budget_runs_the_gate_and_breaks_no_rule(changed: Callable[..., Documents]) -> None:
    documents = changed("consumers", **{"budget_mib: 5000": "budget_mib: 5100"})
    actions = {one["address"]: one["change"]["actions"] for one in documents["consumers"]["resource_changes"]}
    assert actions["null_resource.gate"] == ["delete", "create"]
    assert actions["kubectl_manifest.tenant-llama-swap"] == ["update"]
    assert verdict(documents, "consumers") == []


def test_a_renamed_tenant_has_to_be_named_and_an_image_that_moves_is_found(changed: Callable[..., Documents]) -> None:
    renamed = {"- name: llama-swap\n    namespace": "- name: llama-swop\n    namespace"}
    documents = changed("consumers", **renamed, **{"portal-stt:2.3.0": "portal-stt:stable"})
    goes, moves = "kubectl_manifest.tenant-llama-swap", "consumers images-pinned kubectl_manifest.tenant-portal-stt"
    assert verdict(documents, "consumers") == [moves, f"consumers no-silent-deletion {goes}"]
    assert verdict(documents, "consumers", allow=(goes,)) == [moves]


def test_another_resource_takes_the_old_number_away(changed: Callable[..., Documents]) -> None:
    documents = changed("nvidia", **{"resource: viktorbarzin.me/gpumem": "resource: example.com/gpumem"})
    assert verdict(documents, "nvidia") == ["nvidia no-silent-deletion null_resource.capacity-release"]
