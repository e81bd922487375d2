"""The guides on estates, and on upgrade and uninstall: their commands run, as far as no cluster is needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.apps.cli.__main__ import run
from helpers.apps.cli.coordinator_commands import coordinator_run
from helpers.domain.errors import ExitCode
from lab.fake_nvml.build import ensure_library
from lab.fake_nvml.state import STATE_VARIABLE, FakeDriver, FakeGpu
from tests.fixtures.doctor_lab import Ward
from tests.synth.estates import EXAMPLE, PROJECT, SHIPPED, shipped

ESTATES = (PROJECT / "docs/guides/estates.md").read_text()
UPGRADE = (PROJECT / "docs/guides/upgrade-and-uninstall.md").read_text()
DOCUMENTS = sorted([PROJECT / "README.md", *PROJECT.glob("docs/**/*.md")])


def lines(text: str, program: str = "gpumem") -> list[str]:
    """The lines of all blocks that run `program`, without their comments."""
    blocks = re.findall(r"^```\w*\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    found = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in found if line.startswith(f"{program} ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader stands: a folder with the shipped estates."""
    shutil.copytree(PROJECT / "estates", tmp_path / "estates")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPUMEM_ESTATE", raising=False)
    return tmp_path


def test_every_shipped_estate_is_in_the_table() -> None:
    linked = set(re.findall(r"\(\.\./\.\./((?:estates/)?[\w-]+\.yaml)\)", ESTATES))
    before_a_change = {"estates/rtx3080ti-before-vllm.yaml"}
    assert linked == {str(path.relative_to(PROJECT)) for path in SHIPPED} - before_a_change


def test_a_copy_of_an_estate_is_checked_and_reported(folder: Path) -> None:
    (copy,) = lines(ESTATES, "cp")
    _, source, target = copy.split()
    shutil.copy(folder / source, folder / target)
    for line in ("gpumem validate", "gpumem report"):
        assert line in lines(ESTATES)
        assert run(shlex.split(line)[1:]) == ExitCode.OK, line


def test_what_the_arrival_of_vllm_changed_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = [line for line in lines(ESTATES) if "--compare" in line]
    assert run(shlex.split(line)[1:]) == ExitCode.OK
    assert "vllm" in capsys.readouterr().out


def test_who_is_released_and_restored_is_a_tenant_of_that_estate() -> None:
    changes = [line.split() for line in lines(ESTATES) if line.split()[1] in ("release", "restore")]
    assert [words[1] for words in changes] == ["release", "restore"]
    for _, _, tenant, _, file in changes:
        assert shipped(PROJECT / file).tenant(tenant) is not None


def test_the_coordinator_of_a_machine_that_is_no_node_takes_its_options() -> None:
    """It runs until it is stopped; `tests/queues` has it with its Redis."""
    (line,) = [line for line in lines(ESTATES) if line.startswith("gpumem coordinator")]
    with coordinator_run.make_context("run", shlex.split(line)[3:]) as context:
        assert context.params["no_kubernetes"] is True
        assert context.params["dry_run"] is True


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for NVML is compiled with gcc")
def test_the_exporter_of_a_machine_that_is_no_node_says_what_its_card_holds(folder: Path) -> None:
    (line,) = [line for line in lines(ESTATES) if line.startswith("gpumem exporter")]
    FakeDriver((FakeGpu("GPU-0", 8 * 1024**3, 1024**3),)).write(folder / "state")
    known = {"LD_LIBRARY_PATH": str(ensure_library()), STATE_VARIABLE: str(folder / "state")}
    program = [sys.executable, "-m", "helpers.apps.cli", *shlex.split(line)[1:]]
    done = subprocess.run(program, env=os.environ | known, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "gpu_sample_up{" in done.stdout


def test_the_rendering_before_and_after_an_upgrade_can_be_compared(folder: Path) -> None:
    (folder / "gpumem.yaml").write_text(EXAMPLE.read_text())
    compared = [line for line in lines(UPGRADE) if line.split()[1] in ("validate", "render")]
    assert len(compared) == 3
    for line in compared:
        assert run(shlex.split(line)[1:]) == ExitCode.OK, line
    (difference,) = lines(UPGRADE, "diff")
    _, _, before, after = difference.split()
    assert tree(folder / before) == tree(folder / after) != {}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_command_that_measures_says_from_what(document: Path) -> None:
    """Without a trace and without a Prometheus it would end with its usage."""
    for line in lines(document.read_text()):
        words = line.split()
        if words[1] in ("arm", "recommend") or words[1:3] == ["watchdog", "replay"]:
            options = [word for word in words if word.startswith("-")]
            traces = [word for word in words[2:] if word.endswith(".jsonl")]
            assert "--prometheus" in options or traces, line


@pytest.mark.lab
def test_without_terraform_the_fields_are_given_back_by_hand(ward: Ward) -> None:
    given_back = [line for line in lines(UPGRADE) if "unset" in line]
    assert len(given_back) == 2
    for line in given_back:
        done = ward.run(line)
        assert done.returncode == 0, done.stderr
    assert ward.findings() == ()
