"""The cdktf command line drives the same app: `npx cdktf synth|diff`, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.standins.install import choose_providers
from lab.terraform_run import PROJECT, find_terraform

CLI = PROJECT / "node_modules" / ".bin" / "cdktf"

pytestmark = [
    pytest.mark.terraform,  # the command line asks terraform for its version before anything else
    pytest.mark.skipif(not CLI.exists(), reason="node_modules is absent; `npm ci` brings the cdktf command line"),
    pytest.mark.skipif(shutil.which("npx") is None, reason="npx (Node) is not on PATH"),
]


@pytest.fixture
def cdktf(tmp_path: Path) -> Callable[..., str]:
    """Runs `npx cdktf ARGUMENTS` on the example estate; state, output and cluster are this test's own."""
    estate = tmp_path / "gpumem.yaml"
    shutil.copy(PROJECT / "gpumem.yaml", estate)
    program = find_terraform()
    assert program is not None
    providers = choose_providers(program, tmp_path / "providers", Path(sys.executable))
    environment = {
        **os.environ,
        **providers.environment(),
        "CHECKPOINT_DISABLE": "1",
        "CI": "1",  # plain output, no questions
        "GPUMEM_ESTATE": str(estate),
        "KUBECONFIG": str(tmp_path / "none"),
        "KUBE_LAZY_LOAD": "true",
        "npm_config_offline": "true",
        "TERRAFORM_BINARY_NAME": program,
    }

    def run(*arguments: str) -> str:
        app = f"{sys.executable} main.py"
        command = ["npx", "--no-install", "cdktf", *arguments, "--app", app, "--output", str(tmp_path / "cdktf.out")]
        outcome = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
        )
        assert outcome.returncode == 0, f"{' '.join(command)}:\n{outcome.stdout[-4000:]}\n{outcome.stderr[-4000:]}"
        return outcome.stdout + outcome.stderr

    return run


def test_synth_writes_both_stacks(cdktf: Callable[..., str], tmp_path: Path) -> None:
    said = cdktf("synth")
    assert "Generated Terraform code for the stacks: consumers, nvidia" in said
    manifest = json.loads((tmp_path / "cdktf.out" / "manifest.json").read_text())
    assert manifest["stacks"]["consumers"]["dependencies"] == ["nvidia"]


def test_diff_plans_the_nvidia_stack(cdktf: Callable[..., str], tmp_path: Path) -> None:
    said = cdktf("diff", "nvidia", "--skip-provider-lock")
    assert "kubectl_manifest.capacity-watch" in said
    assert "0 to change, 0 to destroy" in said
    assert not list(tmp_path.glob("*.tfstate")), "a plan wrote a state"


def test_the_clean_clones_command_is_the_one_of_the_environment() -> None:
    """`npx cdktf …` works after `make setup`, with nothing activated."""
    assert json.loads((PROJECT / "cdktf.json").read_text())["app"] == ".venv/bin/python main.py"
    assert json.loads((PROJECT / "cdktf.json").read_text())["sendCrashReports"] == "false"


def test_the_npm_lock_names_no_registry() -> None:
    """Whoever installs does it from the registry that they have configured."""
    lock = json.loads((PROJECT / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/cdktf-cli"]["version"] == "0.21.0"
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
