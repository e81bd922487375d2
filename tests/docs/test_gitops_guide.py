"""The guide on delivery by Git: its block, its commands and its table, held against the code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.gitops import delivered_folders
from helpers.rendering.gitops_steps import step_job
from helpers.rendering.render import render
from tests.synth.estates import EXAMPLE, PROJECT, shipped

GUIDE = (PROJECT / "docs/guides/gitops.md").read_text()
FLAT = " ".join(GUIDE.split())
BLOCKS = re.findall(r"^```(\w*)\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
(BLOCK,) = [text for kind, text in BLOCKS if kind == "yaml"]
(COMMANDS,) = [text for kind, text in BLOCKS if kind == "sh"]


def estate_text() -> str:
    return f"{EXAMPLE.read_text()}{BLOCK}"


def estate() -> Estate:
    return parse_estate(estate_text(), "gpumem.yaml")[0]


def run(line: str, folder: Path) -> str:
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    author = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    variables = {**os.environ, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, **author}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        shlex.split(line), cwd=folder, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def test_the_commands_bring_the_tree_into_the_repository_and_a_second_round_has_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "gpumem.yaml").write_text(estate_text())
    run("git init --quiet --bare remote.git", tmp_path)
    run("git init --quiet gpus", tmp_path)
    run("git -C gpus symbolic-ref HEAD refs/heads/main", tmp_path)
    run("git -C gpus remote add origin ../remote.git", tmp_path)
    run("git -C gpus config push.default current", tmp_path)
    for line in COMMANDS.splitlines():
        run(line, tmp_path)
    pushed = run("git -C remote.git ls-tree -r --name-only main", tmp_path).split()
    path = yaml.safe_load(BLOCK)["gitops"]["path"]
    folders = {part.folder for part in delivered_folders(estate(), render(estate()))}
    assert f"{path}/gitops/2-argocd-application-set.yaml" in pushed  # named in the text
    assert {str(Path(name).parent) for name in pushed} == {f"{path}/{folder}" for folder in folders} | {path}
    for line in COMMANDS.splitlines()[:3]:
        run(line, tmp_path)
    assert run("git -C gpus status --porcelain", tmp_path) == ""


def test_the_table_has_every_folder() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", GUIDE, re.MULTILINE)
    folders = [part.folder for part in delivered_folders(estate(), render(estate()))]
    assert rows == [*folders[:-1], "2-platform", "gitops"]


def test_the_gates_job_is_where_the_guide_looks_for_its_log() -> None:
    (gate,) = [step for step in render(estate()).steps if step.address == "gate"]
    job = step_job(estate(), gate, keeps_trying=False).manifest["metadata"]
    assert f"kubectl -n {job['namespace']} logs job/{job['name']}" in GUIDE


def test_names_are_the_codes() -> None:
    assert f"`{names.FIELD_MANAGER_TERRAFORM}` as a second owner" in FLAT
    tenant = re.findall(r"`gpumem budget unset ([a-z-]+)`", GUIDE)
    assert [shipped(EXAMPLE).tenant(name) is not None for name in tenant] == [True]
