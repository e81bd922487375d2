"""`gpumem plan-check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.cli import __main__ as cli
from helpers.domain.errors import ExitCode
from helpers.domain.plan_policy.rules import RULES
from tests.fixtures.plan_documents import document

CLEAN: dict[str, Any] = {"seated_mib": None, "resources": []}
GOES = {"address": "kubectl_manifest.tenant-a", "actions": ["delete"], "before": {"kind": "Deployment"}}
BROKEN: dict[str, Any] = {"seated_mib": None, "resources": [GOES]}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(document(BROKEN)))
    return file


def test_a_clean_plan_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(document(CLEAN)))
    assert cli.run(["plan-check", str(tmp_path / "plan.json")]) == ExitCode.OK
    assert capsys.readouterr().out == f"{len(RULES)} rules hold\n"


def test_a_finding_says_place_value_rule_and_repair(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan-check", str(plan)]) == ExitCode.CHECK_FAILED
    first, rule, repair, total = capsys.readouterr().out.splitlines()
    assert first == f"{plan}: kubectl_manifest.tenant-a = Deployment is deleted"
    assert rule.startswith("  rule:   no-silent-deletion: No namespace, workload")
    assert repair.endswith("name it with --allow-delete ADDRESS.")
    assert total == f"1 finding, 1 of {len(RULES)} rules broken"


def test_what_is_named_may_go_and_what_no_plan_deletes_is_said(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allowed = ["--allow-delete", "kubectl_manifest.tenant-a", "--allow-delete", "kubectl_manifest.tenant-b"]
    assert cli.run(["plan-check", str(plan), *allowed]) == ExitCode.OK
    assert capsys.readouterr().err == "--allow-delete kubectl_manifest.tenant-b: no plan deletes it\n"


def test_json_and_yaml_hold_every_rule_and_finding(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan-check", str(plan), "-o", "json"]) == ExitCode.CHECK_FAILED
    said = json.loads(capsys.readouterr().out)
    assert (said["passed"], said["plans"]) == (False, [str(plan)])
    assert {rule["id"]: rule["passed"] for rule in said["rules"]} == {
        rule.id: rule.id != "no-silent-deletion" for rule in RULES
    }
    assert [finding["address"] for finding in said["findings"]] == ["kubectl_manifest.tenant-a"]
    assert cli.run(["plan-check", str(plan), "-o", "yaml"]) == ExitCode.CHECK_FAILED
    assert yaml.safe_load(capsys.readouterr().out) == said


def test_markdown_is_a_table_and_the_rules_behind_it(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan-check", str(plan), "-o", "markdown"]) == ExitCode.CHECK_FAILED
    said = capsys.readouterr().out
    assert said.startswith("**Plan checks**: 1 finding, 1 of ")
    assert "| kubectl_manifest.tenant-a |" in said
    assert "- `no-silent-deletion`: " in said


def test_an_annotation_is_one_line_whatever_it_holds(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan-check", str(plan), "-o", "github"]) == ExitCode.CHECK_FAILED
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::error title=no-silent-deletion::kubectl_manifest.tenant-a : Deployment is deleted%0A")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "has no format_version"),
        ('{"format_version": "2.0", "configuration": {}}', "format_version = '2.0': only 1.x is known"),
        ('{"format_version": "1.0", "values": {}}', "has no configuration, as the JSON of a state has none"),
        ('{"format_version": "1.2", "configuration": {}, "errored": true}', "Terraform did not finish this plan"),
    ],
)
def test_what_is_no_plan_is_bad_input(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert cli.run(["plan-check", str(tmp_path / "plan.json")]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--export", "rego"], ["--output-dir", "x"], ["a.json", "--export", "rego"]])
def test_plans_or_an_export_and_never_both(arguments: list[str]) -> None:
    assert cli.run(["plan-check", *arguments]) == ExitCode.BAD_INPUT
