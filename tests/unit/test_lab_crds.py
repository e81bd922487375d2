"""CRDs from Go modules, with a stand-in `go`: what cannot be had, or is another, is answered with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import crds
from lab.crds import CrdModule, NoCrds, find_crds
from lab.errors import LabError

CRD = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\n"
MODULE = CrdModule("example.com/engine", "v1.0.0", "h1:right", ("crds/*.yaml",))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "module"
    (folder / "crds").mkdir(parents=True)
    (folder / "crds" / "things.yaml").write_text(f"---\n{CRD}---\nkind: Namespace\n")
    monkeypatch.setitem(crds.MODULES, "engine", MODULE)
    return folder


def go_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, str] | str, code: int = 0) -> None:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    (tmp_path / "answer").write_text(text)
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f'#!/bin/sh\nif [ "$1" = env ]; then echo go1.26.8; exit 0; fi\ncat {tmp_path}/answer\nexit {code}\n'
    (folder / "go").write_text(script)
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_definitions_of_a_module_and_nothing_else_of_it(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_answers(tmp_path, monkeypatch, {"Dir": str(module), "Sum": "h1:right"})
    found = find_crds("engine")
    assert isinstance(found, list)
    assert [crd["metadata"]["name"] for crd in found] == ["things.example.com"]


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ({"Error": "403 Forbidden"}, 1, "403 Forbidden"),
        ("no such host", 1, "no such host"),
        ({"Dir": "/nowhere", "Sum": "h1:another"}, 0, "h1:right"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_had_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, str] | str, code: int, reason: str
) -> None:
    go_answers(tmp_path, monkeypatch, answer, code)
    found = find_crds("engine")
    assert isinstance(found, NoCrds)
    assert reason in found.reason


def test_files_that_somebody_has_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMEM_CRDS", str(tmp_path))
    (tmp_path / "volcano").mkdir()
    with pytest.raises(LabError, match=r"\$GPUMEM_CRDS/volcano has no file"):
        find_crds("volcano")
    (tmp_path / "volcano" / "things.yaml").write_text(CRD)
    found = find_crds("volcano")
    assert isinstance(found, list)
    assert [crd["metadata"]["name"] for crd in found] == ["things.example.com"]


def test_an_engine_without_published_crds_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMEM_CRDS", raising=False)
    found = find_crds("volcano")
    assert isinstance(found, NoCrds)
    assert "no CRD" in found.reason
