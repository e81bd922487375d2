"""The guide for a first change, and the script that follows it. The whole way: `python docs/newcomer.py`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guides/first-change.md").read_text()


@pytest.fixture(scope="module")
def newcomer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("newcomer", ROOT / "docs/newcomer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_block_of_the_guide_is_followed_under_its_heading(newcomer: ModuleType) -> None:
    blocks = newcomer.parts(GUIDE)
    assert [commands for _, commands in blocks] == re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert [heading[:2] for heading, _ in blocks] == ["1.", "1.", "2.", "2.", "3.", "3.", "4.", "5."]


def test_a_guide_that_works_is_timed_part_by_part(
    newcomer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = "## One\n```sh\nx=kept\n```\n```text\nnot run\n```\n## Two\n```sh\necho $x > file\ncat file\n```\n"
    assert newcomer.follow(guide, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "    kept\n" in shown, "one shell for all of it"
    assert re.findall(r"^ +[\d.]+ s  (.*)$", shown, re.MULTILINE) == ["One: x=kept", "Two: echo $x > file"]
    assert shown.endswith("s in all: followed to its end\n")


def test_a_command_that_fails_ends_it_and_is_named(
    newcomer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = "## One\n```sh\ntrue\n```\n## Two\n```sh\nfalse || echo told\nfalse\ntouch after\n```\n"
    assert newcomer.follow(guide, tmp_path) == 1
    assert "a command of part 2 failed (exit code 1)" in capsys.readouterr().out
    assert not (tmp_path / "after").exists()


def test_what_the_guide_says_of_the_change_is_what_the_review_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "gpumem.yaml"
    changed.write_text((ROOT / "gpumem.yaml").read_text().replace("budget_mib: 3000", "budget_mib: 6000"))
    assert cli.run(["review", "--base", str(ROOT / "gpumem.yaml"), "-f", str(changed)]) == ExitCode.CHECK_FAILED
    shown = " ".join(capsys.readouterr().out.split())
    assert "slack -2300 MiB on GPU 0 of `t4-node`" in " ".join(GUIDE.split())
    assert "slack -2300 MiB" in shown
    assert re.findall(r"stop (\S+): its pod becomes Pending", shown) == ["immich-ml"]
