"""YAML with places: nothing is converted by surprise, and every value knows where it stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.rendering.yaml_source import dotted, parse_path, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("5000", 5000),
        ("1.36", 1.36),
        ("5e3", 5000.0),
        (".5", 0.5),
        # What YAML 1.1 converts and nobody means:
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("True", "True"),
        ("09:00", "09:00"),
        ("1:30:00", "1:30:00"),
        ("0644", "0644"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        (".inf", ".inf"),
        ("=", "="),
        ("3000Mi", "3000Mi"),
        ('"5000"', "5000"),
        ("'true'", "true"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    document = read_document(f"key: {text}\n")
    assert document.problems == []
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


def test_every_path_knows_its_line_and_column() -> None:
    document = read_document("a: 1\nlist:\n  - {x: 1, y: 2}\n  - z:\n      deep: true\n")
    assert document.place(("a",)) == (1, 1)
    assert document.place(("list",)) == (2, 1)
    assert document.place(("list", 0)) == (3, 5)
    assert document.place(("list", 0, "y")) == (3, 12)
    assert document.place(("list", 1, "z", "deep")) == (5, 7)


def test_a_path_that_is_not_there_has_the_place_of_its_nearest_parent() -> None:
    document = read_document("a:\n  b: 1\n")
    assert document.place(("a", "c", 3)) == (1, 1)
    assert document.place(("x",)) == (1, 1)


def test_scalars_are_kept_as_they_are_written() -> None:
    document = read_document("a: 1.30\nb: '5000'\nc: 5e3\nd: \"x\"\n")
    assert document.texts == {("a",): "1.30", ("b",): '"5000"', ("c",): "5e3", ("d",): '"x"'}


def test_a_repeated_key_is_a_problem_at_its_second_place() -> None:
    document = read_document("a: 1\nb: 2\na: 3\n")
    (problem,) = document.problems
    assert (problem.path, problem.line, problem.column) == ("a", 3, 1)
    assert "line 1" in problem.rule
    assert document.value == {"a": 1, "b": 2}


def test_aliases_are_read_and_merge_keys_are_keys_like_any_other() -> None:
    document = read_document("a: &x {k: 1}\nb: *x\nc: {<<: *x}\n")
    assert document.value == {"a": {"k": 1}, "b": {"k": 1}, "c": {"<<": {"k": 1}}}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: b: c",
        "\ta: 1",
        "a: 1\n---\nb: 2",
        "a: &x [*x]",
        "a: !!int x",
        "a: !!python/object:os.system {}",
        "a: *nobody",
        "a: \x01",
        "[" * 500,
    ],
)
def test_what_cannot_be_read_is_one_problem_with_a_place(text: str) -> None:
    document = read_document(text)
    (problem,) = document.problems
    assert problem.path == "(file)"
    assert problem.line >= 1
    assert problem.repair


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    document = read_document("\n".join(lines))
    assert [problem.path for problem in document.problems] == ["(file)"]


PARTS = st.one_of(st.integers(0, 99), st.sampled_from(["a", "budget_mib", "nvidia.com/gpu", "a.b", "x[0]", "-", "a b"]))


@given(st.lists(PARTS, max_size=6).filter(lambda path: not path or isinstance(path[0], str)))
def test_a_written_path_is_read_back(path: list[str | int]) -> None:
    assert parse_path(dotted(tuple(path))) == tuple(path)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_and_never_crashes(text: str) -> None:
    document = read_document(text)
    assert all(problem.rule and problem.repair for problem in document.problems)
