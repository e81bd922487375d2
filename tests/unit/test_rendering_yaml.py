"""Text in, the same text out, whoever reads it: templates that quote, YAML that is quoted where it must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from helpers.rendering import templates
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderingError
from helpers.rendering.templates import quoted, render_template

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
# YAML reads a key on one line only up to 1024 characters, escapes included; Kubernetes's longest have 317.
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@example("\x7f\x85\u2028\ufeff\U0001f600")
@example({"a: b": "# no comment"})
def test_a_quoted_value_is_read_back_as_itself(value: Any) -> None:
    text = quoted(value)
    assert "\n" not in text
    assert yaml.safe_load(f"key: {text}") == {"key": value}


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@example({"a": "two\nlines\n", "b": "trailing \nspace", "c": "\n", "d": "tab\t"})
@example({"a": "\x85\u2028\u2029\n", "b": "x\x85", "c": "\ufeff\x7f\r\n", "d": "\U0001f600"})
def test_a_written_manifest_is_read_back_as_itself(manifest: dict[str, Any]) -> None:
    text = to_yaml(manifest)
    assert yaml.safe_load(text) == manifest
    assert not {"\x85", "\u2028", "\u2029"} & set(text), "a reader may take these for line breaks"


@pytest.mark.parametrize(
    "text",
    ["y", "N", "yes", "Off", "true", "null", "~", "", "1e3", "012", "0x1f", "0o7", "1_000", "12:30", ".inf", "NaN",
     "-", "- a", "a: b", "a #b", "*a", "&a", "!a", "%a", "@a", "`a", "[a", "{a", "=", "<<", "2026-11-22", " a", "a "],
)  # fmt: skip
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    """Kubernetes reads with Go's YAML, to which a bare y is true and a bare 1e3 a number."""
    assert to_yaml({"key": text}) == f'key: "{text}"\n'


@pytest.mark.parametrize("text", ["Deployment", "apps/v1", "registry.example.com/gpumem:0.1.0", "nvidia.com/gpu"])
def test_plain_words_stay_bare(text: str) -> None:
    assert to_yaml({"key": text}) == f"key: {text}\n"


def test_shared_values_are_written_out_and_keys_are_sorted() -> None:
    labels = {"b": "x", "a": "x"}
    assert to_yaml({"two": labels, "one": labels}) == "one:\n  a: x\n  b: x\ntwo:\n  a: x\n  b: x\n"


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "component"
    folder.mkdir()
    monkeypatch.setattr(templates, "MANIFESTS", tmp_path)
    templates._environment.cache_clear()
    yield folder
    templates._environment.cache_clear()


def test_every_value_of_a_template_is_quoted_without_a_filter(manifests: Path) -> None:
    (manifests / "a.yaml.j2").write_text(
        'x-gpumem: {address: a}\nkind: K\nmetadata: {name: {{ name }}}\n"k": {{ "p." ~ name }}\n'
    )
    (found,) = render_template(0, "component/a.yaml.j2", name='x"}\nkind: Evil')
    assert found.kind == "K"
    assert found.manifest["metadata"] == {"name": 'x"}\nkind: Evil'}
    assert found.manifest["k"] == 'p.x"}\nkind: Evil'
    assert (found.component, found.address, found.after, found.retain) == ("component", "a", (), False)


def test_an_undefined_name_is_an_error_that_names_it(manifests: Path) -> None:
    (manifests / "a.yaml.j2").write_text("x-gpumem: {address: a}\nkind: {{ nmae }}\n")
    with pytest.raises(UndefinedError, match="'nmae' is undefined"):
        list(render_template(0, "component/a.yaml.j2", name="x"))


def test_a_document_without_its_place_is_an_error(manifests: Path) -> None:
    (manifests / "a.yaml.j2").write_text("kind: K\n")
    with pytest.raises(RenderingError, match="a document lacks x-gpumem"):
        list(render_template(0, "component/a.yaml.j2"))
