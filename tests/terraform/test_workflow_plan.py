"""The reusable workflow's plan: its own shell lines, with terraform and no cluster."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lab.standins.install import ProviderChoice
from tests.fixtures.workflows import ROOT, Runner, workflow

pytestmark = [
    pytest.mark.terraform,
    pytest.mark.skipif(
        shutil.which("terraform") is None, reason="the workflow installs terraform, and only tofu is here"
    ),
]


def test_every_stack_is_planned_and_checked_in_its_order(tmp_path: Path, providers: ProviderChoice) -> None:
    shutil.copy(ROOT / "gpumem.yaml", tmp_path)
    values = {
        "inputs.estate": "gpumem.yaml",
        "inputs.allow_delete": "",
        "github.event.pull_request.base.sha || github.event.before": "",
        "github.workspace": str(tmp_path),
        "secrets.backend_environment": f"FIRST=1\nKUBECONFIG={tmp_path}/none",
    }
    environment = {**providers.environment(), "GPUMEM_HOME": str(ROOT)}
    runner = Runner(workflow("estate-review"), "check", tmp_path, values, environment)
    planned = runner.run("Plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    plans = sorted(path.name for path in (tmp_path / ".gpumem-out").glob("*.json"))
    assert plans == ["0-nvidia.json", "1-consumers.json"]
    changes = json.loads((tmp_path / ".gpumem-out" / plans[1]).read_text())["resource_changes"]
    assert {one["change"]["actions"][0] for one in changes} == {"create"}
    checked = runner.run("Plan checks")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "::notice title=Plan checks::10 rules hold" in checked.stdout
