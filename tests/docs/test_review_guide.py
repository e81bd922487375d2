"""The guide on reviews, followed: its commands run in a repository of their own, its figures are theirs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.estate.review import FINDING_KINDS, Review

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guides/review.md").read_text()
BLOCKS = re.findall(r"```(sh|text)\n(.*?)```", GUIDE, re.DOTALL)
Ran = dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Ran]]:
    """Every line of the `sh` blocks in order: `{line: [(exit code, output) of each time it stands there]}`."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "gpumem.yaml").write_text((ROOT / "gpumem.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GPUMEM_ESTATE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        commit = "git -c user.name=t -c user.email=t@example.com commit --quiet -m estate"
        run(f"git init --quiet --initial-branch main && git add . && {commit}")
        ran: Ran = {}
        for line in (line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()):
            ran.setdefault(line, []).append(run(line))
        yield folder, ran


def run(line: str) -> tuple[int, str]:
    """`gpumem` in this process, since a start of Python a command is most of the time; all else by the shell."""
    if not line.startswith("gpumem "):
        done = subprocess.run(["sh", "-ec", line], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.returncode, done.stdout
    command, _, file = line.partition(" > ")
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        code = cli.run(shlex.split(command)[1:])
    if file:
        Path(file).write_text(written.getvalue())
    return code, written.getvalue()


def test_every_command_ends_as_the_guide_says(followed: tuple[Path, Ran]) -> None:
    _, ran = followed
    assert len(ran) == 10
    for line, times in ran.items():
        codes = [code for code, _ in times]
        assert codes == ([1, 0] if line == "gpumem review --base main" else [0] * len(codes)), line


def test_the_output_that_the_guide_shows_is_the_commands(followed: tuple[Path, Ran]) -> None:
    (shown,) = [text for kind, text in BLOCKS if kind == "text"]
    (_, first), (_, second) = followed[1]["gpumem review --base main"]
    assert first == shown
    assert second.startswith("medium risk")
    assert "it is elastic, so it waits and disturbs nobody" in " ".join(second.split())
    ((_, allowed),) = followed[1]["gpumem review --base main --allow-overflow"]
    assert allowed.startswith("high risk, 2 accepted by --allow-overflow")


def test_the_files_that_the_guide_writes_are_there(followed: tuple[Path, Ran]) -> None:
    for name, begin in (
        ("comment.md", "<!-- gpumem-review -->"),
        ("seating.svg", "<svg"),
        ("review.html", "<!doctype"),
    ):
        assert (followed[0] / name).read_text().startswith(begin)


def test_the_table_of_findings_is_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", GUIDE, re.MULTILINE)
    assert [kind for kind, _ in rows] == list(FINDING_KINDS)
    assert tuple(kind for kind, stops in rows if stops == "yes") == Review().stop_on
