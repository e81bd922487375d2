"""The tree that Argo CD or Flux applies: the rendering's own objects, its steps as Jobs, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.cli.__main__ import run
from helpers.domain import names
from helpers.domain.errors import ExitCode
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from helpers.rendering.gitops import ENGINE_FOLDER, delivered_folders
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from helpers.rendering.write import write_tree
from tests.synth.estates import EXAMPLE, PROJECT, SHIPPED, example, shipped

ENGINES = ("argocd", "flux")
PREFIXES = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/")
every_estate = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
every_engine = pytest.mark.parametrize("engine", ENGINES)


def with_gitops(estate: Estate, engine: Any) -> Estate:
    gitops = GitOps(engine=engine, repo_url="https://git.example.com/a/gpus.git", path="clusters/gpu")
    return estate.model_copy(update={"gitops": gitops})


def delivered(estate: Estate) -> dict[str, RenderedObject]:
    """`{folder/address: object}`, without the engine's own."""
    folders = delivered_folders(estate, render(estate))
    return {f"{part.folder}/{item.address}": item for part in folders[:-1] for item in part.objects}


def plain(manifest: Any) -> dict[str, Any]:
    """`manifest` without what the engine is told."""
    metadata = dict(manifest["metadata"])
    annotations = {k: v for k, v in metadata.pop("annotations", {}).items() if not k.startswith(PREFIXES)}
    return {**manifest, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}


def identity(manifest: Any) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@every_estate
def test_the_block_changes_nothing_of_what_terraform_applies(path: Path) -> None:
    without = shipped(path).model_copy(update={"gitops": None})
    assert delivered_folders(without, render(without)) == ()
    for engine in ENGINES:
        delivered_too = render(with_gitops(without, engine))
        assert (delivered_too.objects, delivered_too.steps) == (render(without).objects, render(without).steps)


@every_estate
@every_engine
def test_every_object_is_delivered_as_it_is_rendered_and_beside_it_only_what_steps_need(
    path: Path, engine: str
) -> None:
    estate = with_gitops(shipped(path), engine)
    rendered = {identity(item.manifest): item.manifest for item in render(estate).objects}
    found = [plain(item.manifest) for item in delivered(estate).values()]
    ours = {identity(manifest): manifest for manifest in found}
    assert len(ours) == len(found)
    assert {key: ours[key] for key in rendered} == rendered
    accounts = (names.GATE_SERVICE_ACCOUNT, names.BUDGET_SERVICE_ACCOUNT, names.REPLICAS_SERVICE_ACCOUNT)
    for key in set(ours) - set(rendered):
        assert key[0] == "Job" or key[2] in accounts, key


@every_estate
@every_engine
def test_every_step_is_one_job_with_terraforms_command_and_input(path: Path, engine: str) -> None:
    estate = with_gitops(shipped(path), engine)
    jobs = {item.address: item.manifest for item in delivered(estate).values() if item.kind == "Job"}
    steps = {f"job-{step.address}": step for step in render(estate).steps if step.on == "create"}
    assert set(jobs) == set(steps)
    for address, step in steps.items():
        pod = jobs[address]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (variable,) = container["env"]
        assert container["command"] + container["args"] == ["gpumem", *step.arguments, "--step"]
        assert (variable["name"], yaml.safe_load(variable["value"])) == (names.ENV_STEP, dict(step.triggers))
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


@every_engine
def test_a_changed_budget_of_a_foreign_workload_is_another_job_and_a_new_look_at_the_gate(engine: str) -> None:
    before = delivered(with_gitops(shipped(EXAMPLE), engine))
    after = delivered(with_gitops(example(**{"budget_mib: 3000": "budget_mib: 2900"}), engine))
    changed = {key.rsplit("/", 1)[1] for key in before if before[key].manifest != after[key].manifest}
    assert changed == {"job-budget-immich-ml", "job-gate"}
    (old, new) = (tree["1-consumers/4-tenant-steps/job-budget-immich-ml"].manifest for tree in (before, after))
    assert old["metadata"]["name"] != new["metadata"]["name"]


def test_another_image_is_another_job_because_a_jobs_pod_cannot_be_changed() -> None:
    before = delivered(with_gitops(shipped(EXAMPLE), "flux"))
    after = delivered(with_gitops(example(**{'tag: "0.1.0"': 'tag: "0.2.0"'}), "flux"))
    named = {key: item.manifest["metadata"]["name"] for key, item in before.items() if item.kind == "Job"}
    assert named
    assert not {key for key, name in named.items() if after[key].manifest["metadata"]["name"] == name}


def test_a_jobs_name_is_short_enough_for_a_label_whatever_the_tenant_is_called() -> None:
    long = "a" * 63
    estate = with_gitops(example(**{"- name: immich-ml #": f"- name: {long} #"}), "argocd")
    others = with_gitops(example(**{"- name: immich-ml #": f"- name: {long[:-1]}b #"}), "argocd")
    found = [
        item.manifest["metadata"]["name"]
        for tree in (delivered(estate), delivered(others))
        for key, item in tree.items()
        if f"job-budget-{long[:-1]}" in key
    ]
    assert len(set(found)) == 2
    assert all(names.is_dns_label(name) for name in found)


@every_engine
def test_the_same_bytes_in_every_folder_and_under_every_hash_seed(tmp_path: Path, engine: str) -> None:
    estate = tmp_path / "gpumem.yaml"
    block = f"gitops: {{engine: {engine}, repo_url: 'https://git.example.com/a/gpus.git', path: gpu}}\n"
    estate.write_text(EXAMPLE.read_text() + block)
    for seed, folder in (("1", tmp_path / "one"), ("2", tmp_path / "elsewhere" / "two")):
        subprocess.run(
            [sys.executable, "-m", "helpers.apps.cli", "render", "-f", str(estate), "--output-dir", str(folder)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    assert files(tmp_path / "one") == files(tmp_path / "elsewhere" / "two")


def test_another_engine_or_none_leaves_no_file_behind(tmp_path: Path) -> None:
    base = shipped(EXAMPLE)
    fresh = {}
    for engine in ("argocd", "flux", None):
        estate = base if engine is None else with_gitops(base, engine)
        write_tree(render(estate), tmp_path / str(engine), delivered_folders(estate, render(estate)))
        fresh[engine] = files(tmp_path / str(engine))
    assert len({tuple(tree) for tree in fresh.values()}) == 3
    for engine in ("argocd", None, "flux", "argocd"):
        estate = base if engine is None else with_gitops(base, engine)
        write_tree(render(estate), tmp_path / "one", delivered_folders(estate, render(estate)))
        assert files(tmp_path / "one") == fresh[engine]


def test_render_says_which_folders_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estate = tmp_path / "gpumem.yaml"
    block = "gitops: {engine: argocd, repo_url: 'https://git.example.com/a/gpus.git', path: gpu}\n"
    estate.write_text(EXAMPLE.read_text() + block)
    assert run(["render", "-f", str(estate), "--output-dir", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'out' / '1-consumers' / '1-steps'}: 1 objects" in said
    assert f"{tmp_path / 'out' / ENGINE_FOLDER}: 2 objects" in said
    assert "Terraform" not in said


def test_render_says_what_the_project_stops_allowing_because_argo_cd_would_leave_it_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estate, out = tmp_path / "gpumem.yaml", tmp_path / "out"
    block = "gitops: {engine: argocd, repo_url: 'https://git.example.com/a/gpus.git', path: gpu}\n"
    text = EXAMPLE.read_text() + block
    one_less = text.split("  - name: portal-stt")[0] + block  # the last tenant, alone in its namespace
    said = []
    for one in (text, text, one_less, text):
        estate.write_text(one)
        assert run(["render", "-f", str(estate), "--output-dir", str(out)]) == 0
        said.append(capsys.readouterr().err)
    assert "AppProject" not in said[0] + said[1] + said[3]
    assert "no longer allows: Namespace portal, everything in namespace portal. Argo CD prunes only" in said[2]
    assert f"apply {out / ENGINE_FOLDER} after the Applications have synced" in said[2]
    (out / ENGINE_FOLDER / "2-argocd-project.yaml").write_text("kind: AppProject\n")
    assert run(["render", "-f", str(estate), "--output-dir", str(out)]) == ExitCode.BAD_INPUT
    assert "Restore it from Git" in capsys.readouterr().err
