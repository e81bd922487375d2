"""What is written about the estate is what the model says: generated pages, examples, numbers in comments."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from docs import generate
from docs.generate import generated, rows_of_schema
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import load_estate
from helpers.rendering.estate_schema import estate_schema
from helpers.rendering.yaml_source import EstatePath, read_document

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "gpumem.yaml"
ESTATES = [EXAMPLE, *sorted((ROOT / "estates").glob("*.yaml"))]
REFERENCE = ROOT / "docs" / "reference"

every_estate = pytest.mark.parametrize("file", ESTATES, ids=lambda file: file.stem)


def loaded(file: Path) -> Estate:
    return load_estate(file)[0]


@pytest.mark.parametrize("name", sorted(generated()))
def test_the_generated_reference_is_fresh(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == generated()[name], "run: python docs/generate.py"


def test_the_generator_checks_from_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_stale_file_is_shown_as_a_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "estate.md").write_text("old\n", encoding="utf-8")
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    shown = capsys.readouterr().out
    assert "-old" in shown
    assert "docs/generate.py" in shown


def test_every_key_has_a_meaning() -> None:
    assert [path for path, _, _, meaning in rows_of_schema() if not meaning] == []


def test_there_is_an_estate_for_each_reference() -> None:
    names = {file.stem for file in ESTATES}
    assert names >= {"gpumem", "rtx3080ti", "rtx3080ti-before-vllm", "rtx2060super", "talos-2x3090", "gpu-pools"}


@every_estate
def test_an_estate_is_valid_without_a_warning(file: Path) -> None:
    _, warnings = load_estate(file)
    assert warnings == []


@every_estate
def test_an_estate_agrees_with_the_published_schema(file: Path) -> None:
    schema = json.loads((REFERENCE / "estate.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read_document(file.read_text(encoding="utf-8")).value, schema)


@every_estate
def test_an_estate_names_the_schema_for_editors(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match is not None
    assert (file.parent / match[1]).resolve() == REFERENCE / "estate.schema.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tenants", 0, "budget_mib"), "3000"),
        (("tenants", 0, "budget"), 3000),
        (("tenants", 0, "class"), "fast"),
        (("nodes", 0, "gpus"), []),
        (("watchdog",), None),
    ],
)
def test_the_published_schema_refuses_what_the_reader_refuses(path: EstatePath, value: Any) -> None:
    estate = read_document(EXAMPLE.read_text(encoding="utf-8")).value
    block = estate
    for part in path[:-1]:
        block = block[part]
    block[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(estate, estate_schema())


def test_every_key_of_the_model_stands_in_the_example_at_least_in_a_comment() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    document = read_document(text)
    present = {re.sub(r"\[\d+\]", "[]", path) for path in map(generic, document.places)}
    comments = "\n".join(line.partition("#")[2] for line in text.splitlines())
    missing = [
        path
        for path, *_ in rows_of_schema()
        if path not in present and not re.search(rf"\b{path.rpartition('.')[2]}\b", comments)
    ]
    assert missing == []


def generic(path: EstatePath) -> str:
    text = ""
    for part in path:
        text += "[]" if isinstance(part, int) else f".{part}" if text else part
    return text


def test_optional_keys_of_the_example_show_their_default() -> None:
    defaults = {path: default.strip("`") for path, _, default, _ in rows_of_schema() if default.startswith("`")}
    document = read_document(EXAMPLE.read_text(encoding="utf-8"))
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    shown = {}
    for path, text in document.texts.items():
        line = lines[document.places[path][0] - 1]
        if "OPTIONAL" in line and generic(path) in defaults:
            shown[generic(path)] = (text, defaults[generic(path)])
    assert len(shown) >= 8
    assert {path: text.strip('"') for path, (text, _) in shown.items()} == {
        path: default.strip('"') for path, (_, default) in shown.items()
    }


@every_estate
def test_sums_in_comments_are_right(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for left, right, result in re.findall(r"(\d+) - (\d+) = (\d+)", text):
        assert int(left) - int(right) == int(result)


@every_estate
def test_what_a_comment_says_a_card_offers_is_what_it_offers(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    offered = [gpu.advertised_mib for node in loaded(file).nodes for gpu in node.gpus]
    claims = [int(number) for number in re.findall(r"(?:leaves |= |# )(\d+)(?: a card| is advertised|;| on)", text)]
    assert len(claims) >= len(offered)
    assert set(claims) == set(offered)


def test_the_example_is_the_t4_with_its_five_tenants() -> None:
    estate = loaded(EXAMPLE)
    assert (estate.nodes[0].physical_mib, estate.nodes[0].advertised_mib) == (15360, 14000)
    budgets = {tenant.name: tenant.budget_mib for tenant in estate.tenants}
    assert budgets == {
        "immich-ml": 3000,
        "llama-swap": 5000,
        "frigate": 2000,
        "immich-server": 1800,
        "portal-stt": 1500,
    }


def test_vllm_is_told_its_budget_as_a_fraction_of_the_whole_card() -> None:
    file = ROOT / "estates" / "rtx3080ti.yaml"
    vllm = loaded(file).tenant("vllm")
    assert vllm is not None
    assert vllm.pod is not None
    physical_mib = loaded(file).nodes[0].physical_mib
    (fraction,) = re.findall(r"--gpu-memory-utilization=([0-9.]+)", str(vllm.pod["containers"][0]["args"]))
    assert float(fraction) == math.floor(vllm.budget_mib / physical_mib * 1000) / 1000
    assert f"{vllm.budget_mib} / {physical_mib}" in file.read_text(encoding="utf-8")


def test_with_vllm_the_card_holds_it_or_ollama_but_not_both() -> None:
    estate = loaded(ROOT / "estates" / "rtx3080ti.yaml")
    always_on_mib = sum(tenant.budget_mib for tenant in estate.tenants if not tenant.elastic)
    elastic_mib = [tenant.budget_mib for tenant in estate.tenants if tenant.elastic]
    advertised_mib = estate.nodes[0].advertised_mib
    assert max(elastic_mib) <= advertised_mib - always_on_mib < sum(elastic_mib)
