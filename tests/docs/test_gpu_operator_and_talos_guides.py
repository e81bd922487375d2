"""The guides on the GPU Operator and on Talos: their commands run, their blocks and names are what is rendered.

helm, talosctl, talhelper and the image factory are not here; of their lines only the files are looked at.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.cli.__main__ import run
from helpers.domain.errors import ExitCode
from helpers.domain.estate.gpu_operator_checks import (
    ALWAYS_DECIDED,
    DECIDED_ON_TALOS,
    DECIDED_WITH_DCGM,
    DECIDED_WITH_MIG,
    FIRST_CHART_WITH_PODS_OWN_MEMORY,
)
from helpers.domain.estate.talos import FIRST_TALOS
from helpers.rendering.estate_file import parse_estate
from lab.cluster import Lab
from lab.crds import NoCrds, apply_crds, find_crds
from tests.synth.estates import EXAMPLE, PROJECT, shipped
from tests.synth.test_upstream_forms import CHART, TALOS

GUIDES = {name: (PROJECT / f"docs/guides/{name}.md").read_text() for name in ("gpu-operator", "talos")}
OPERATOR, TALOS_GUIDE = (" ".join(GUIDES[name].split()) for name in ("gpu-operator", "talos"))
ESTATE = shipped(PROJECT / "estates/talos-2x3090.yaml")


def blocks(guide: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.+?)^```$", GUIDES[guide], re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(guide: str, program: str) -> list[str]:
    lines = [line for text in blocks(guide, "") for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """What the guide's own command writes."""
    (line,) = commands(request.param, "gpumem")
    folder = tmp_path / "rendered"
    monkeypatch.chdir(PROJECT)
    arguments = [str(folder) if word == "build/rendered" else word for word in shlex.split(line)[1:]]
    assert str(folder) in arguments
    assert run(arguments) == ExitCode.OK
    return folder


def within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    return all(within(v, whole[k]) if isinstance(v, Mapping) else whole[k] == v for k, v in part.items())


@pytest.mark.parametrize("rendered", ["gpu-operator"], indirect=True)
def test_the_operators_values_are_those_that_the_guide_shows(rendered: Path) -> None:
    values = yaml.safe_load((rendered / "gpu-operator/values.yaml").read_text())
    _, shown = blocks("gpu-operator", "yaml")
    assert within(yaml.safe_load(shown), values)
    (install,) = commands("gpu-operator", "helm")
    assert "build/rendered/gpu-operator/values.yaml" in install
    assert ESTATE.gpu_operator is not None
    assert f"--version {ESTATE.gpu_operator.chart_version} " in install
    assert f"--namespace {ESTATE.namespace} " in install


def test_the_block_in_the_guide_is_one_that_an_estate_may_have() -> None:
    block = yaml.safe_load(blocks("gpu-operator", "yaml")[0])
    document = yaml.safe_load(EXAMPLE.read_text()) | block
    estate, _ = parse_estate(yaml.safe_dump(document), "guide.yaml")
    assert estate.gpu_operator is not None


def test_every_value_that_the_estate_decides_is_in_the_guides_table() -> None:
    rows = " ".join(re.findall(r"^\| (.+?) \|", GUIDES["gpu-operator"], re.MULTILINE))
    named = set(re.findall(r"`([a-z][\w.-]+)`", rows))
    for path in [*ALWAYS_DECIDED, *DECIDED_ON_TALOS, *DECIDED_WITH_MIG, *DECIDED_WITH_DCGM]:
        text = ".".join(path)
        assert any(text == name or text.startswith(f"{name}.") or name.startswith(f"{text}.") for name in named), text


def test_the_operators_versions_and_the_charts_date_are_the_codes() -> None:
    first = ".".join(map(str, FIRST_CHART_WITH_PODS_OWN_MEMORY))
    assert f"has a dcgm-exporter that can do it from v{first} on" in OPERATOR
    assert "-20250917" in CHART
    assert "The chart of 17 September 2025" in OPERATOR


@pytest.mark.parametrize("rendered", ["talos"], indirect=True)
def test_talos_files_are_those_that_the_guide_lists(rendered: Path) -> None:
    listed = set(re.findall(r"^\| `([\w-]+\.yaml)` \|", GUIDES["talos"], re.MULTILINE))
    assert {path.name for path in (rendered / "talos").iterdir()} == listed
    for name in re.findall(r"build/rendered/(talos/[\w./-]+\.yaml)", GUIDES["talos"]):
        assert (rendered / name).exists(), name
    assert ESTATE.talos is not None
    (generate,) = commands("talos", "talosctl")
    assert generate.startswith(f"talosctl gen config {ESTATE.talos.cluster_name} {ESTATE.talos.endpoint} ")
    (send,) = commands("talos", "curl")
    assert send.endswith(f"https://{ESTATE.talos.factory}/schematics")


def test_talos_versions_are_the_codes() -> None:
    assert f"schema of Talos {TALOS.rpartition('@')[2]}" in TALOS_GUIDE
    adr = (PROJECT / "docs/adr/0022-machine-configuration-from-the-estate.md").read_text()
    assert f"Talos {FIRST_TALOS[0]}.{FIRST_TALOS[1]} to" in adr


@pytest.mark.lab
@pytest.mark.parametrize("line", [line for guide in GUIDES for line in commands(guide, "kubectl label")])
def test_the_labels_are_ones_that_the_api_server_takes(lab: Lab, line: str) -> None:
    """On this lab's own node and namespace, and without leaving the label there."""
    shown = kubectl(lab, line.replace(" gpu-2 ", " bare-0 ").replace(" ai ", " default "))
    assert "labeled" in shown


@pytest.mark.lab
@pytest.mark.parametrize("rendered", ["gpu-operator"], indirect=True)
def test_argo_cds_objects_are_ones_that_its_crds_take(lab: Lab, rendered: Path) -> None:
    crds = find_crds("argocd")
    if isinstance(crds, NoCrds):
        pytest.skip(f"CRDs of Argo CD cannot be had: {crds.reason}")
    apply_crds(lab.api(), crds)
    if not lab.api().exists("/api/v1/namespaces/argocd"):
        lab.api().post("/api/v1/namespaces", {"metadata": {"name": "argocd"}})
    (line,) = commands("gpu-operator", "kubectl apply")
    shown = kubectl(lab, line.replace("build/rendered", str(rendered)))
    assert "application.argoproj.io/gpumem-gpu-operator serverside-applied" in shown
    assert "appproject.argoproj.io/gpumem-gpu-operator serverside-applied" in shown


def kubectl(lab: Lab, line: str) -> str:
    command = [str(lab.bin("kubectl")), "--kubeconfig", str(lab.kubeconfig), *line.split()[1:], "--dry-run=server"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
