"""The guide on admission, held against the code: its example, tables, names and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.apps.cli.__main__ import run
from helpers.domain import names
from helpers.domain.admission import messages
from helpers.domain.admission.settings import (
    GPU_SYSTEM_NAMESPACE,
    KUBERNETES_NAMESPACES,
    AdmissionSettings,
    admission_settings,
)
from helpers.domain.errors import ExitCode
from helpers.domain.estate.admission import (
    FIRST_MINOR_WITH_MATCH_CONDITIONS,
    FIRST_MINOR_WITH_POLICIES,
    INDEX,
    NVIDIA_SETS,
)
from tests.synth.estates import PROJECT, example

GUIDE = (PROJECT / "docs/guides/admission.md").read_text()
FLAT = " ".join(GUIDE.split())
BLOCKS = re.findall(r"^```(yaml)?\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def settings() -> AdmissionSettings:
    estate = example()
    assert estate.admission is not None
    return admission_settings(estate, estate.admission)


def test_the_example_says_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (pod,) = [text for kind, text in BLOCKS if kind == "yaml"]
    allowed, denied = [text for kind, text in BLOCKS if text.startswith("Pod media/plex")]
    file = tmp_path / "pod.yaml"
    monkeypatch.chdir(PROJECT)
    file.write_text(pod)
    assert run(["admission", "explain", "-f", str(file)]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert shown.startswith(allowed)
    patch = shown.removeprefix(allowed).splitlines()
    assert patch
    assert all(re.match(r"    (add|replace) /", line) for line in patch)
    file.write_text(pod.replace("nvidia:0", "nvdia:0"))
    assert run(["admission", "explain", "-f", str(file)]) == ExitCode.CHECK_FAILED
    assert capsys.readouterr().out == denied


def test_the_annotations_words_are_the_default_sets() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (`/dev/[^|]+) \|$", GUIDE, re.MULTILINE))
    assert set(rows) == {one.name for one in NVIDIA_SETS}
    for one in NVIDIA_SETS:
        cards = [one.gpu_path.replace(INDEX, "0")] if one.gpu_path else []
        assert re.findall(r"`(/dev/[^`]+)`", rows[one.name]) == [*cards, *one.paths]


def test_versions_and_names_are_the_codes() -> None:
    assert f"| Kubernetes | 1.{FIRST_MINOR_WITH_POLICIES} and later | 1.{FIRST_MINOR_WITH_MATCH_CONDITIONS} and" in FLAT
    assert f"`{names.WEBHOOK_SERVICE}`, two pods in `{GPU_SYSTEM_NAMESPACE}`" in FLAT
    assert f"kubectl get mutatingwebhookconfiguration {names.WEBHOOK_CONFIGURATION} -o yaml" in GUIDE
    assert f"kubectl -n {GPU_SYSTEM_NAMESPACE} get pods -l app={names.WEBHOOK_SERVICE}" in GUIDE
    never = ", ".join(f"`{name}`" for name in KUBERNETES_NAMESPACES)
    assert (
        f"never about {never}, `{GPU_SYSTEM_NAMESPACE}`, the estate's own namespace and `excluded_namespaces`" in FLAT
    )


def test_every_message_in_the_table_is_one_that_somebody_says() -> None:
    one = settings()
    texts = [messages.not_allowed(one), messages.no_such_card(one), messages.missing_budget(one)]
    texts += [messages.above_card(one), messages.pod_security(one)]
    said = [text.safe_substitute(level="baseline") for text in texts]
    # The API server's own words; tests/lab/test_injector_failures.py reads them there.
    said.append(f'failed calling webhook "privileged.{names.WEBHOOK_SERVICE}.gpumem.io"')
    rows = re.findall(r"^\| `([^|]*…[^|]*)` \|", GUIDE, re.MULTILINE)
    assert len(rows) == len(said)
    for row in rows:
        parts = [part.strip() for part in row.split("…") if part.strip()]
        assert sum(all(part in text for part in parts) for text in said) == 1, row
