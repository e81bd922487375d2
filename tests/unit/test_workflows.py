"""The workflows: their form, their rights, and their shell lines run on a small repository."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.cli.__main__ import COMMANDS
from lab.policy_tools import ACTIONLINT
from lab.toolchain import built_module
from tests.fixtures.workflows import FOLDER, ROOT, Runner, steps, workflow

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
MARK = "<!-- gpumem -->"


def every_step() -> list[tuple[str, str, dict[str, Any]]]:
    documents = {name: workflow(name) for name in NAMES}
    return [(name, job, step) for name, one in documents.items() for job in one["jobs"] for step in steps(one, job)]


def test_actionlint_has_nothing_to_say() -> None:
    found = built_module(ACTIONLINT)
    if found is None:
        pytest.skip("actionlint is not built here (seconds, once): python -m lab.prepare")
    command: list[str | Path] = [found["actionlint"], "-no-color", *FOLDER.glob("*.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_action_is_a_commit_with_its_version_and_one_action_has_one() -> None:
    lines = [line for name in NAMES for line in (FOLDER / f"{name}.yaml").read_text().splitlines()]
    used = [line.partition("uses: ")[2] for line in lines if re.match(r" +(?:- )?uses: ", line)]
    assert used
    commits: dict[str, set[str]] = {}
    for text in used:
        action = re.fullmatch(r"([\w-]+/[\w-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", text)
        assert action is not None, text
        commits.setdefault(action[1], set()).add(action[2])
    assert {action: len(found) for action, found in commits.items()} == dict.fromkeys(commits, 1)


@pytest.mark.parametrize("name", NAMES)
def test_rights_are_given_job_by_job_and_who_may_write_runs_nothing_of_the_pull_request(name: str) -> None:
    document = workflow(name)
    assert document["permissions"] == {}
    for job, body in document["jobs"].items():
        writes = [scope for scope, right in body["permissions"].items() if right == "write"]
        uses = [step["uses"].partition("@")[0] for step in body["steps"] if "uses" in step]
        assert not writes or (writes, uses) == (["pull-requests"], ["actions/download-artifact"]), job
        assert "timeout-minutes" in body, job


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [step for _, _, step in every_step() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert {step["with"]["persist-credentials"] for step in checkouts} == {False}


def test_no_expression_is_put_into_a_shell_line() -> None:
    """A title or a branch may hold a command; a variable stays a text."""
    assert [(name, job, step["name"]) for name, job, step in every_step() if "${{" in step.get("run", "")] == []


def test_the_projects_own_workflow_runs_make_targets_and_what_ci_runs() -> None:
    runs = [step["run"] for name, _, step in every_step() if name == "ci" and "run" in step]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for line in runs for target in re.findall(r"make ([a-z-]+)", line)}
    assert named == {"check"}
    assert named <= targets
    assert "./.ci/run" in runs
    assert set(workflow("ci")["jobs"]["ci"]["needs"]) == set(workflow("ci")["jobs"]) - {"ci"}


@pytest.mark.parametrize(
    ("results", "code"), [("success success success", 0), ("success skipped success", 1), ("failure", 1)]
)
def test_one_result_is_good_only_where_all_are(results: str, code: int, tmp_path: Path) -> None:
    runner = Runner(workflow("ci"), "ci", tmp_path, {"join(needs.*.result, ' ')": results})
    assert runner.run("One result of all").returncode == code


@pytest.fixture
def pull_request(tmp_path: Path) -> Runner:
    """A repository with an estate and a commit that changes a budget of it."""
    estate = tmp_path / "gpumem.yaml"
    shutil.copy(ROOT / "gpumem.yaml", estate)
    (tmp_path / ".gitignore").write_text(".github_*\n.gpumem-out\n")
    base = commit(tmp_path, "the estate")
    estate.write_text(estate.read_text().replace("budget_mib: 5000", "budget_mib: 5100"))
    commit(tmp_path, "more for llama-swap")
    values = {
        "inputs.estate": "gpumem.yaml",
        "inputs.review_arguments": "",
        "inputs.allow_delete": "kubectl_manifest.tenant-old\n\nkubectl_manifest.tenant-older\n",
        "github.event.pull_request.base.sha || github.event.before": base,
        "github.workspace": str(tmp_path),
        "steps.validate.outputs.code": "0",
    }
    return Runner(workflow("estate-review"), "check", tmp_path, values, {"GPUMEM_HOME": str(ROOT)})


def commit(folder: Path, message: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, timeout=60)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_render_diff_is_what_the_commit_changes(pull_request: Runner) -> None:
    assert "valid" in succeeded(pull_request.run("Validate"))
    assert pull_request.outputs() == {"code": "0"}
    succeeded(pull_request.run("Base"))
    succeeded(pull_request.run("Render diff"))
    changed = (pull_request.folder / ".gpumem-out" / "render.diff").read_text()
    numbers = [line for line in changed.splitlines() if re.match(r"[+-] .*gpumem", line)]
    assert numbers == ['-            viktorbarzin.me/gpumem: "5k"', '+            viktorbarzin.me/gpumem: "5100"']


def test_an_estate_that_is_not_valid_is_said_in_the_comment(pull_request: Runner) -> None:
    (pull_request.folder / "gpumem.yaml").write_text("version: 1\n")
    succeeded(pull_request.run("Validate"))
    assert pull_request.outputs() == {"code": "2"}
    out = pull_request.folder / ".gpumem-out"
    (out / "review.md").write_text("**Review**: none.\n")
    runner = replace(pull_request, values={**pull_request.values, "steps.validate.outputs.code": "2"})
    succeeded(runner.run("Comment text"))
    comment = (out / "comment.md").read_text()
    assert "**Validate**: the estate is not valid" in comment
    assert "rule:" in comment
    assert "rendered otherwise" not in comment


def test_a_new_estate_has_no_base(pull_request: Runner) -> None:
    values = {**pull_request.values, "github.event.pull_request.base.sha || github.event.before": "0" * 40}
    runner = replace(pull_request, values=values)
    (runner.folder / ".gpumem-out").mkdir()
    succeeded(runner.run("Base"))
    succeeded(runner.run("Review"))
    assert runner.outputs() == {"code": "0"}
    assert "a new estate" in (runner.folder / ".gpumem-out" / "review.md").read_text()


@pytest.mark.skipif("review" not in COMMANDS, reason="gpumem review is not on this branch")
def test_the_review_is_written_and_its_verdict_kept(pull_request: Runner) -> None:
    (pull_request.folder / ".gpumem-out").mkdir()
    succeeded(pull_request.run("Base"))
    succeeded(pull_request.run("Review"))
    assert pull_request.outputs()["code"] in ("0", "1")
    assert "llama-swap" in (pull_request.folder / ".gpumem-out" / "review.md").read_text()


def test_plan_checks_verdict_and_comment(pull_request: Runner) -> None:
    out = pull_request.folder / ".gpumem-out"
    out.mkdir()
    (out / "0-nvidia.json").write_text('{"format_version": "1.2", "configuration": {}}')
    assert "10 rules hold" in succeeded(pull_request.run("Plan checks"))
    assert pull_request.outputs() == {"code": "0"}
    (out / "review.md").write_text("**Review**: nothing.\n")
    (out / "render.diff").write_text("-a\n+b\n")
    succeeded(pull_request.run("Comment text"))
    comment = (out / "comment.md").read_text()
    assert "Validate" not in comment
    assert comment.startswith(f"{MARK}\n**Review**: nothing.\n\n**Plan checks**: 10 rules hold.\n")
    assert "~~~~~~diff\n-a\n+b\n" in comment
    assert (pull_request.folder / ".github_step_summary").read_text() == comment


@pytest.mark.parametrize(
    ("validate", "review", "plan_checks", "code"),
    [("0", "0", "0", 0), ("2", "0", "0", 1), ("0", "1", "0", 1), ("0", "0", "1", 1), ("0", "", "0", 1)],
)
def test_the_verdict_is_that_of_all(validate: str, review: str, plan_checks: str, code: int, tmp_path: Path) -> None:
    values = {
        "inputs.estate": "",
        "github.event.pull_request.base.sha || github.event.before": "",
        "github.workspace": "",
        "steps.validate.outputs.code": validate,
        "steps.review.outputs.code": review,
        "steps.plan_checks.outputs.code || '0'": plan_checks,
    }
    assert Runner(workflow("estate-review"), "check", tmp_path, values).run("Verdict").returncode == code


@pytest.mark.parametrize(
    ("known", "method"), [("", "POST repos/o/r/issues/7/comments"), ("41\n42\n", "PATCH repos/o/r/issues/comments/41")]
)
def test_there_is_one_comment_however_often_it_runs(known: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(known)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "gh"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncase "$*" in *--jq*) cat {tmp_path}/known ;; esac\n')
    fake.chmod(0o755)
    values = {"github.token": "t", "github.repository": "o/r", "github.event.pull_request.number": "7"}
    runner = Runner(workflow("estate-review"), "comment", tmp_path, values, {"PATH": f"{fake.parent}:/usr/bin:/bin"})
    succeeded(runner.run("Comment"))
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.startswith("api --paginate repos/o/r/issues/7/comments --jq")
    assert second == f"api --silent --method {method} -F body=@comment.md"
