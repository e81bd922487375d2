"""Terraform itself reads what was synthesised: its syntax, the providers' schemas, the provisioners."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.domain.estate.model import Estate
from lab.standins.install import choose_providers
from lab.terraform_run import find_terraform
from tests.synth.conftest import Stacks
from tests.synth.estates import SHIPPED, shipped

pytestmark = pytest.mark.terraform


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    program = find_terraform()
    assert program is not None, "collection skips this file where there is none"
    work_dir = tmp_path_factory.mktemp("providers")
    providers = choose_providers(program, work_dir, Path(sys.executable))
    # A plan that creates everything needs no cluster; KUBECONFIG names a file that is not there.
    unreachable = {"KUBECONFIG": str(work_dir / "none"), "KUBE_LAZY_LOAD": "true"}
    environment = {**os.environ, **providers.environment(), **unreachable, "CHECKPOINT_DISABLE": "1", "TF_INPUT": "0"}

    def run(folder: Path, *arguments: str) -> str:
        command = [program, *arguments, "-no-color"]
        outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert outcome.returncode == 0, f"{' '.join(command)}:\n{outcome.stdout}\n{outcome.stderr}"
        return outcome.stdout

    return run


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_both_stacks_are_valid_and_plan_without_a_cluster(
    path: Path, synth: Callable[[Estate], Stacks], terraform: Callable[..., str], tmp_path: Path
) -> None:
    stacks = synth(shipped(path))
    for stack in stacks.documents:
        folder = tmp_path / stack
        shutil.copytree(stacks.outdir / "stacks" / stack, folder)
        terraform(folder, "init", "-input=false", f"-backend-config=path={tmp_path / stack}.tfstate")
        assert "The configuration is valid" in terraform(folder, "validate")
        resources = len(list(stacks.resources(stack)))
        assert f"Plan: {resources} to add, 0 to change, 0 to destroy." in terraform(folder, "plan", "-input=false")
