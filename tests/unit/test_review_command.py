"""`gpumem review`: files, git revisions, measured use, outputs and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.apps.cli import review_text
from helpers.domain.errors import ExitCode
from helpers.domain.watchdog.incident import incident_trace
from helpers.domain.watchdog.trace import to_lines

EXAMPLE = (Path(__file__).parents[2] / "gpumem.yaml").read_text()
GROWN = EXAMPLE.replace("budget_mib: 3000", "budget_mib: 6000")


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the example on `main`, and a change of it in the work tree."""
    monkeypatch.delenv("GPUMEM_ESTATE", raising=False)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpumem.yaml").write_text(EXAMPLE)
    (tmp_path / "lab.yaml").write_text(EXAMPLE.replace("budget_mib: 3000", "budget_mib: 3500"))
    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", "the estate")
    (tmp_path / "gpumem.yaml").write_text(GROWN)
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True, timeout=60)


def test_one_change_of_the_example_stops_and_is_told_with_tenant_gpu_and_slack(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["review", "--base", "main", "-o", "markdown"]) == ExitCode.CHECK_FAILED
    comment = capsys.readouterr().out
    assert comment.startswith(review_text.MARKER)
    assert "**immich-ml**: its pod becomes Pending on t4-node, GPU 0 (Tesla T4)" in comment
    assert "slack -2300 MiB" in comment
    assert "700 → -2300" in comment


def test_the_same_change_passes_where_overflow_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["review", "--base", "main", "--allow-overflow"]) == ExitCode.OK
    assert "high risk, 2 accepted by --allow-overflow" in capsys.readouterr().out


def test_no_change_exits_0_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["review", "--base", "gpumem.yaml"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("nothing changes")


@pytest.mark.parametrize(
    ("base", "new", "before_mib", "after_mib"),
    [
        ("main", "gpumem.yaml", 3000, 6000),
        ("main", "main:lab.yaml", 3000, 3500),
        ("main:lab.yaml", "HEAD", 3500, 3000),
        ("lab.yaml", "gpumem.yaml", 3500, 6000),
        ("main", "lab.yaml", 3500, 3500),
    ],
)
def test_each_side_is_a_file_or_a_revision(
    base: str, new: str, before_mib: int, after_mib: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["review", "--base", base, "-f", new, "-o", "json"])
    tenant = json.loads(capsys.readouterr().out)["tenants"][0]
    assert (tenant["tenant"], tenant["budget_before_mib"], tenant["budget_after_mib"]) == (
        "immich-ml",
        before_mib,
        after_mib,
    )


def test_a_revision_is_read_from_below_the_repositorys_root(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "estates").mkdir()
    monkeypatch.chdir(repository / "estates")
    assert cli.run(["review", "--base", "main:../gpumem.yaml", "-f", "../lab.yaml"]) == ExitCode.OK
    assert "main:../gpumem.yaml → ../lab.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base", "nowhere"], "--base nowhere: neither a file nor a git revision here"),
        (["--base", "--all"], "--base --all: neither a file nor a git revision here"),
        (["--base", "main:no.yaml"], "has no no.yaml. Name it: --base main:FILE"),
        (["--base", "main", "-f", "gone.yaml"], "-f gone.yaml: neither a file nor a git revision"),
        (["--base", "main:/etc/hostname"], "relative to this folder"),
        (["--base", "main", "--svg", "no/such/chart.svg"], "cannot be written"),
        ([], "--base"),
    ],
)
def test_what_cannot_be_read_exits_2_and_says_what_can(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["review", *arguments]) == ExitCode.BAD_INPUT
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_invalid_estate_exits_2_with_its_place(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "gpumem.yaml").write_text(GROWN.replace("elastic: false", "elastik: false"))
    assert cli.run(["review", "--base", "main"]) == ExitCode.BAD_INPUT
    assert "tenants[0].elastik" in capsys.readouterr().err


def test_without_git_it_exits_3_and_two_files_still_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cli.run(["review", "--base", "main"]) == ExitCode.DEPENDENCY
    assert "git is not on PATH" in capsys.readouterr().err
    assert cli.run(["review", "--base", "lab.yaml", "--allow-overflow"]) == ExitCode.OK


def test_a_budget_under_its_measured_use_stops(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "trace.jsonl").write_text(to_lines(incident_trace()))
    (repository / "gpumem.yaml").write_text(EXAMPLE.replace("budget_mib: 3000", "budget_mib: 1000"))
    assert cli.run(["review", "--base", "main"]) == ExitCode.OK
    assert "p99" not in capsys.readouterr().out
    assert cli.run(["review", "--base", "main", "--usage", "trace.jsonl"]) == ExitCode.CHECK_FAILED
    shown = capsys.readouterr().out
    assert "immich-ml: its budget becomes 1000 MiB; its measured p99 is" in shown
    assert "P99 MIB" in shown


def test_the_chart_is_written_beside_any_output(repository: Path) -> None:
    assert cli.run(["review", "--base", "main", "--svg", "chart.svg", "-o", "html"]) == ExitCode.CHECK_FAILED
    assert (repository / "chart.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("output", ["table", "json", "yaml", "markdown", "html"])
def test_the_same_change_gives_the_same_bytes(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for _ in range(2):
        cli.run(["review", "--base", "main", "-o", output])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "\x1b" not in shown[0], "colours are for terminals"


def test_on_a_terminal_the_verdict_has_a_colour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    cli.run(["review", "--base", "main"])
    assert "\x1b[31mstop, 2 reasons\x1b[0m" in capsys.readouterr().out
