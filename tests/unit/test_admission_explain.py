"""`gpumem admission explain` as somebody runs it: rules and patch, exit codes, and what it says of bad files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.apps.cli.__main__ import run
from helpers.domain.admission.shape import shape_problem
from helpers.domain.errors import ExitCode
from tests.fixtures.admission_cases import cases

Explain = Callable[..., int]
ROOT = Path(__file__).resolve().parents[2]
PLEX = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: plex, namespace: media}
spec:
  template:
    metadata: {annotations: {gpu-directories: nvidia}}
    spec: {containers: [{name: plex, image: "plex:1"}]}
"""


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    monkeypatch.chdir(ROOT)

    def call(text: str, *options: str) -> int:
        file = tmp_path / "pod.yaml"
        file.write_text(text)
        return run(["admission", "explain", "-f", str(file), *options])

    return call


def test_it_prints_rules_warnings_and_the_patch(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(PLEX) == ExitCode.OK
    shown = capsys.readouterr().out
    assert shown.startswith("Deployment media/plex: allowed\n")
    for text in ("volumes nvidia0 (/dev/nvidia0)", "runtimeClassName nvidia", "warning: ", "add /spec/volumes "):
        assert text in shown


def test_a_pod_that_would_be_denied_is_exit_code_1(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(PLEX.replace("nvidia}", "nvdia}")) == ExitCode.CHECK_FAILED
    assert 'denied: gpu-directories: "nvdia" is not allowed' in capsys.readouterr().out


def test_the_namespaces_own_level_counts(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(PLEX, "--pod-security", "baseline") == ExitCode.CHECK_FAILED
    assert "enforces baseline" in capsys.readouterr().out


def test_json_is_for_machines(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(PLEX + "---\n" + PLEX.replace("plex,", "other,"), "-o", "json") == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["engine"] == "policy"
    assert [pod["source"] for pod in shown["pods"]] == ["Deployment media/plex", "Deployment media/other"]
    assert {operation["op"] for operation in shown["pods"][0]["patch"]} == {"add"}


def test_every_kind_that_makes_pods_is_understood(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    pod = "{spec: {containers: [{name: a, image: 'a:1'}]}}"
    kinds = [f"kind: {kind}\nspec: {{template: {pod}}}\n" for kind in ("Job", "StatefulSet", "DaemonSet", "ReplicaSet")]
    kinds.append(f"kind: CronJob\nspec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}\n")
    kinds.append("kind: List\nitems: [{kind: Pod, spec: {containers: [{name: a, image: 'a:1'}]}}]\n")
    assert explain("---\n".join(kinds)) == ExitCode.OK
    assert capsys.readouterr().out.count("nothing is changed") == len(kinds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Service\n", "holds Service, and no pod"),
        ("", "holds nothing, and no pod"),
        ("version: 1\n", "a manifest is a mapping with a kind"),
        ((ROOT / "gpumem.yaml").read_text(), "an estate is named by --estate"),
        ("kind: List\nitems: 5\n", "[0].items: a list of manifests"),
        ("kind: Pod\nmetadata: [a]\nspec: {}\n", "[0].metadata: Pod: a mapping"),
        ("kind: Job\nmetadata: {namespace: 5}\nspec: {template: {spec: {}}}\n", "a namespace in it is a text"),
        ("{", "no YAML"),
        ("kind: Deployment\nspec: {}\n", "this Deployment has no pod: spec.template.spec is missing"),
        ("kind: Pod\nspec: {containers: none}\n", "spec.containers: input should be a valid list"),
        ("kind: Pod\nspec: {containers: [{name: 1}]}\n", "spec.containers.0.name: input should be a valid string"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    explain: Explain, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert explain(text) == ExitCode.BAD_INPUT
    shown = capsys.readouterr().err
    assert said in shown
    assert "pod.yaml" in shown
    assert "Traceback" not in shown


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run(["admission", "explain", "-f", "nowhere.yaml"]) == ExitCode.BAD_INPUT
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err


def test_an_estate_that_is_not_there_is_named_with_the_option_that_names_it(
    explain: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-f` is the pod here and the estate elsewhere."""
    assert explain(PLEX, "--estate", "nowhere.yaml") == ExitCode.BAD_INPUT
    assert "nowhere.yaml: cannot be read: No such file or directory. Name the estate with --estate FILE." in (
        capsys.readouterr().err
    )


def test_an_estate_without_the_block_says_how_to_add_it(
    explain: Explain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert explain(PLEX, "--estate", str(ROOT / "estates/rtx2060super.yaml")) == ExitCode.BAD_INPUT
    assert "Add admission: {}" in capsys.readouterr().err


def test_every_pod_of_the_table_has_a_form_that_rules_can_read() -> None:
    assert {shape_problem(case.pod) for case in cases()} == {""}
