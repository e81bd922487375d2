"""main.py as a user and the cdktf command line run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stacks.constructs.step import helper_program
from tests.synth.estates import EXAMPLE, PROJECT


def run_app(estate: Path, outdir: Path) -> subprocess.CompletedProcess[str]:
    silenced = {key: value for key, value in os.environ.items() if not key.startswith("JSII_SILENCE_")}
    environment = {**silenced, "GPUMEM_ESTATE": str(estate), "CDKTF_OUTDIR": str(outdir)}
    command = [sys.executable, str(PROJECT / "main.py")]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120)


def test_a_valid_estate_becomes_two_stacks_and_nothing_is_said(tmp_path: Path) -> None:
    """Also pins that jsii's banner about an old Node stays away."""
    outcome = run_app(EXAMPLE, tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    assert sorted(path.parent.name for path in tmp_path.glob("stacks/*/cdk.tf.json")) == ["consumers", "nvidia"]


def test_an_invalid_estate_names_its_problems_and_ends_with_2(tmp_path: Path) -> None:
    estate = tmp_path / "gpumem.yaml"
    estate.write_text(EXAMPLE.read_text().replace("budget_mib: 3000", "budget_mib: 30000"))
    outcome = run_app(estate, tmp_path / "out")
    assert outcome.returncode == 2
    assert f"{estate}:" in outcome.stderr
    assert "tenants[0].budget_mib = 30000" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_an_estate_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    outcome = run_app(tmp_path / "none.yaml", tmp_path / "out")
    assert outcome.returncode == 2
    assert "none.yaml" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_local_state_lies_beside_the_estate_and_each_stack_has_its_own(tmp_path: Path) -> None:
    for name, file in (("gpumem.yaml", "terraform.{}.tfstate"), ("other.yaml", "terraform.other.{}.tfstate")):
        estate = tmp_path / name
        estate.write_text(EXAMPLE.read_text())
        assert run_app(estate, tmp_path / "out").returncode == 0
        for stack in ("nvidia", "consumers"):
            document = json.loads((tmp_path / "out" / "stacks" / stack / "cdk.tf.json").read_text())
            assert document["terraform"]["backend"] == {"local": {"path": str(tmp_path / file.format(stack))}}


def test_a_remote_backend_is_passed_on_with_the_stacks_name(tmp_path: Path) -> None:
    estate = tmp_path / "gpumem.yaml"
    remote = "type: s3\n    config: {bucket: states, key: 'gpu/{stack}.tfstate', use_lockfile: true}"
    estate.write_text(EXAMPLE.read_text().replace("type: local\n    config: {}", remote))
    outcome = run_app(estate, tmp_path / "out")
    assert outcome.returncode == 0, outcome.stderr
    document = json.loads((tmp_path / "out" / "stacks" / "nvidia" / "cdk.tf.json").read_text())
    assert document["terraform"]["backend"] == {
        "s3": {"bucket": "states", "key": "gpu/nvidia.tfstate", "use_lockfile": True}
    }


def test_versions_come_from_the_estate(tmp_path: Path) -> None:
    estate = tmp_path / "gpumem.yaml"
    estate.write_text(EXAMPLE.read_text().replace('required_version: ">= 1.5"', 'required_version: ">= 1.6"'))
    assert run_app(estate, tmp_path / "out").returncode == 0
    document = json.loads((tmp_path / "out" / "stacks" / "nvidia" / "cdk.tf.json").read_text())
    assert document["terraform"]["required_version"] == ">= 1.6"
    assert document["terraform"]["required_providers"] == {
        "kubectl": {"source": "alekc/kubectl", "version": ">= 2.1, < 3"},
        "null": {"source": "hashicorp/null", "version": ">= 3.2, < 4"},
    }
    assert document["provider"] == {"kubectl": [{}], "null": [{}]}


def test_the_command_line_starts_without_cdktf() -> None:
    """cdktf starts a Node process; `gpumem validate` needs none."""
    code = "import sys, helpers.apps.cli.__main__; sys.exit('cdktf' in sys.modules or 'jsii' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=60).returncode == 0


def test_the_steps_start_gpumem_from_path_else_the_one_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`npx cdktf deploy` works in a clone whose environment is not activated."""
    for folder in ("environment", "path"):
        program = tmp_path / folder / "gpumem"
        program.parent.mkdir()
        program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "environment" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert helper_program() == str(tmp_path / "environment" / "gpumem")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert helper_program() == "gpumem"
