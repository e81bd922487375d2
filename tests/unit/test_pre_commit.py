"""The hooks: those that a user's repository takes, and the project's own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OFFERED: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
OWN: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]


def test_the_offered_hook_validates_the_estate_and_is_set_off_by_it() -> None:
    (hook,) = OFFERED
    assert re.search(hook["files"], "gpumem.yaml")
    assert re.search(hook["files"], "clusters/home/gpumem-t4.yaml")
    assert not re.search(hook["files"], "docs/about-gpumem.md")
    program = Path(sys.executable).parent / hook["entry"].split()[0]
    command = [program, *hook["entry"].split()[1:], *hook["args"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hook", OWN, ids=[hook["id"] for hook in OWN])
def test_an_own_hook_starts_what_setup_installs(hook: dict[str, Any]) -> None:
    program, *_ = shlex.split(hook["entry"])
    assert program.startswith(".venv/bin/")
    assert (Path(sys.executable).parent / Path(program).name).exists()


def test_the_own_hooks_are_a_part_of_make_check() -> None:
    """One judgement: what a hook runs, `make lint` or `make test` runs as well."""
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin").replace(" --quiet", "")
    for hook in OWN:
        said = hook["entry"].replace(" --force-exclude", "")
        if hook["id"] != "estate":  # the tests validate every shipped estate
            assert said in makefile, hook["id"]
