"""The exported rules, judged by the tools they are exported to: the same verdicts, line for line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.plan_policy.rules import RULES
from lab.policy_tools import OPA
from lab.toolchain import built_module
from tests.fixtures.plan_documents import cases, documents

CASES = cases()
ROOT = Path(__file__).resolve().parents[2]
CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"
# All cases in one run: the verdicts of `deny`, each case as conftest --combine would give it. The round trip through
# JSON is needed: `with input as` takes a value, and a reference into other documents reads as nothing.
QUERY = (
    "[lines | some case in data.cases; plans := json.unmarshal(json.marshal(case.input)); "
    "allowed := json.unmarshal(json.marshal(case.data)); "
    "found := data.main.deny with input as plans with data.gpumem as allowed; "
    'lines := [sprintf("%s %s %s %s", [one.plan, one.rule, one.address, one.place]) | some one in found]]'
)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    for tool in ("rego", "checkov"):
        assert cli.run(["plan-check", "--export", tool, "--output-dir", str(tmp_path / tool)]) == 0
    return tmp_path


@pytest.fixture
def opa() -> Path:
    found = built_module(OPA)
    if found is None:
        pytest.skip("Open Policy Agent is not built here (two minutes, once): python -m lab.prepare")
    return found["opa"]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_rego_gives_the_verdicts_of_the_cases(opa: Path, exported: Path) -> None:
    asked = [
        {
            "input": [{"path": name, "contents": plan} for name, plan in documents(case).items()],
            "data": {"allow_delete": case.get("allow_delete", [])},
        }
        for case in CASES
    ]
    (exported / "cases.json").write_text(json.dumps({"cases": asked}))
    answer = run(opa, "eval", "--data", exported / "rego", "--data", exported / "cases.json", "--format", "raw", QUERY)
    verdicts = dict(zip([case["name"] for case in CASES], map(sorted, json.loads(answer)), strict=True))
    assert verdicts == {case["name"]: sorted(case["expect"]) for case in CASES}


def test_rego_takes_a_single_plan_and_says_rule_and_repair(opa: Path, exported: Path) -> None:
    case = next(case for case in CASES if case["name"] == "deletion: an object of unknown kind")
    (plan,) = documents(case).values()
    (exported / "plan.json").write_text(json.dumps(plan))
    query = ("--input", exported / "plan.json", "--format", "raw", "[found.msg | some found in data.main.deny]")
    (message,) = json.loads(run(opa, "eval", "--data", exported / "rego", *query))
    assert message.startswith("plan: kubectl_manifest.x = an object of unknown kind goes or is made anew")
    assert "no-silent-deletion" in message
    assert "--allow-delete ADDRESS" in message


def test_the_rego_is_strict_and_formatted(opa: Path, exported: Path) -> None:
    run(opa, "check", "--strict", exported / "rego")
    assert run(opa, "fmt", "--diff", exported / "rego") == ""


@pytest.mark.skipif(
    not CHECKOV.exists(),
    reason="checkov is not installed here: ./lab/setup.sh --with-checkov puts it into .venv-checkov",
)
def test_checkov_gives_the_verdicts_of_the_cases_by_the_rules_that_it_can_ask(exported: Path) -> None:
    on_one_resource = {rule.id for rule in RULES if rule.looks_at == "resource"}
    wanted, folder = [], exported / "plans"
    folder.mkdir()
    for number, case in enumerate(CASES):
        for name, plan in documents(case).items():
            (folder / f"{number}-{name}").write_text(json.dumps(plan))
        wanted += [f"{number}-{line}" for line in case["expect"] if line.split(" ")[1] in on_one_resource]
    answer = run(
        CHECKOV, "--directory", folder, "--framework", "terraform_plan", "--external-checks-dir", exported / "checkov",
        "--check", "CKV_GPUMEM_*", "--output", "json", "--soft-fail", "--quiet", "--compact", "--skip-download",
    )  # fmt: skip
    assert sorted(_lines(json.loads(answer))) == sorted(wanted)


def _lines(report: dict[str, Any]) -> list[str]:
    return [
        f"{Path(check['file_path']).name} {check['check_name'].partition(':')[0]} {check['resource']} {place}"
        for check in report["results"]["failed_checks"]
        for place in check["check_result"]["evaluated_keys"]
    ]
