"""Read an estate file: all problems at once, each with file, line, path, value, rule, repair."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from helpers.domain.errors import EstateInvalid, InputError, Problem
from helpers.domain.estate.checks import check_estate
from helpers.domain.estate.model import Estate
from helpers.domain.estate.suggestion import did_you_mean
from helpers.rendering.estate_remainder import remainder_of
from helpers.rendering.estate_schema import described, estate_schema, known_keys
from helpers.rendering.yaml_source import Document, EstatePath, dotted, parse_path, read_document

__all__ = ["estate_schema", "load_estate", "parse_estate"]

_LONGEST_SHOWN = 60


def load_estate(path: Path, *, allow_overcommit: bool = False, option: str = "-f") -> tuple[Estate, list[Problem]]:
    """The estate in `path` and its warnings.

    `allow_overcommit` leaves out the always-on arithmetic, for review, which judges it. `option` is how the
    command at hand names an estate.

    Raises:
        EstateInvalid: at least one error; carries every problem found.
        InputError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}. Name the estate with {option} FILE.") from error
    return parse_estate(text, str(path), allow_overcommit=allow_overcommit)


def parse_estate(text: str, file: str, *, allow_overcommit: bool = False) -> tuple[Estate, list[Problem]]:
    """`load_estate` on text; `file` is only named in problems."""
    document = read_document(text)
    problems = list(document.problems)
    estate: Estate | None = None
    if not any(problem.path == "(file)" for problem in problems):
        estate, found = _validate(document, allow_overcommit=allow_overcommit)
        problems += found
    problems = sorted((replace(p, file=file) for p in problems), key=lambda p: (p.line, p.column, p.path, p.rule))
    if estate is None or any(problem.severity == "error" for problem in problems):
        raise EstateInvalid(problems)
    return estate, problems


def _validate(document: Document, *, allow_overcommit: bool) -> tuple[Estate | None, list[Problem]]:
    if not isinstance(document.value, Mapping):
        rule = "an estate is a mapping that begins with version: 1"
        return None, [Problem("(file)", _shown(document, ()), rule, "start from gpumem.yaml", line=1, column=1)]
    try:
        estate = _estate_of(document.value)
    except ValidationError as error:
        details = _own_errors(error.errors(include_url=False))
        problems = _merge_union_branches(document, details)
        return None, problems + _problems_of_the_rest(document, details, allow_overcommit=allow_overcommit)
    return estate, _placed(document, check_estate(estate, allow_overcommit=allow_overcommit))


def _own_errors(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """`details` without lists that are "too short" only because pydantic did not count a broken entry."""
    paths = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(path[: len(detail["loc"])] == detail["loc"] and path != detail["loc"] for path in paths)
    ]


def _estate_of(value: Any) -> Estate:
    # Only the keys of the file count, not the names that Python gives to them (`class`).
    return Estate.model_validate(value, by_alias=True, by_name=False)


def _problems_of_the_rest(document: Document, details: list[ErrorDetails], *, allow_overcommit: bool) -> list[Problem]:
    """What the checks say about the parts whose form is right."""
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    broken = [detail["loc"] for detail in details if detail["type"] != "extra_forbidden"]
    rest = remainder_of(_without(document.value, unknown), broken)
    if rest is None:
        return []
    try:
        estate = _estate_of(rest.value)
    except ValidationError:
        # What is broken is reported already; the rest does not stand without it.
        return []
    found = check_estate(estate, allow_overcommit=allow_overcommit)
    return _placed(document, [rest.in_file(problem) for problem in found])


def _merge_union_branches(document: Document, details: list[ErrorDetails]) -> list[Problem]:
    """An `int | str` field fails once a branch; a person wants it once."""
    problems: list[Problem] = []
    for detail in details:
        branch = detail["loc"][-1] if detail["loc"] and detail["loc"] not in document.places else ""
        if branch == "str":
            continue
        problem = _schema_problem(document, detail)
        if branch == "int":
            problem = replace(problem, rule=_PODS_OR_PERCENT[0], repair=_PODS_OR_PERCENT[1])
        problems.append(problem)
    return problems


def _without(value: Any, paths: list[tuple[int | str, ...]], here: EstatePath = ()) -> Any:
    if isinstance(value, Mapping):
        return {k: _without(v, paths, (*here, k)) for k, v in value.items() if (*here, k) not in paths}
    if isinstance(value, list):
        return [_without(item, paths, (*here, index)) for index, item in enumerate(value)]
    return value


def _placed(document: Document, problems: list[Problem]) -> list[Problem]:
    placed = []
    for problem in problems:
        line, column = document.place(parse_path(problem.path))
        placed.append(replace(problem, line=line, column=column))
    return placed


def _schema_problem(document: Document, detail: ErrorDetails) -> Problem:
    path = tuple(detail["loc"])
    if detail["type"] == "estate_rule":
        path += parse_path(detail["ctx"]["at"])
    if detail["type"] != "missing":
        # pydantic adds the union branch or the model's name to the place; the file knows neither.
        while path and path not in document.places:
            path = path[:-1]
    line, column = document.place(path)
    shown = "" if detail["type"] == "missing" else _shown(document, path)
    rule, repair = _rule_and_repair(detail, path, shown)
    return Problem(dotted(path) or "(file)", shown, rule, repair, line=line, column=column)


def _rule_and_repair(detail: ErrorDetails, path: EstatePath, shown: str) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "estate_rule":
        return str(context["rule"]), str(context["repair"])
    if kind == "extra_forbidden":
        return "unknown key", did_you_mean(str(path[-1]), known_keys(path[:-1]))
    if kind == "missing":
        return "this key is required", f"add {path[-1]}. {described(path)}"
    if kind == "literal_error":
        return _one_of(str(context["expected"]), detail["input"])
    if kind in _BOUNDS:
        rule, repair = (text.format(**context) for text in _BOUNDS[kind])
        return rule, f"{repair}. {described(path)}"
    if kind in _WANTED:
        return _WANTED[kind], _write_as(kind, detail["input"], shown)
    return detail["msg"][:1].lower() + detail["msg"][1:], described(path)


_PODS_OR_PERCENT = ("a number of pods, or a percentage", 'write 1, or "25%"')

_WANTED = {
    "int_type": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
}

_BOUNDS = {
    "greater_than_equal": ("at least {ge}", "write {ge} or more"),
    "less_than_equal": ("at most {le}", "write {le} or less"),
    "too_short": ("at least {min_length} entry", "add one"),
    "string_too_short": ("not empty", "write a text"),
}

_MIB_IN = {"M": 1, "Mi": 1, "MiB": 1, "MB": 1, "G": 1024, "Gi": 1024, "GiB": 1024, "GB": 1024}


def _one_of(expected: str, value: Any) -> tuple[str, str]:
    words = expected.replace("'", "").replace(" or ", ", ").split(", ")
    if len(words) == 1:
        return f"always {words[0]}", f"write {words[0]}" + (", without quotes" if isinstance(value, str) else "")
    hint = did_you_mean(str(value), words)
    return f"one of {', '.join(words)}", hint if hint.startswith("did you mean") else "write one of them"


def _write_as(kind: str, value: Any, shown: str) -> str:
    if kind == "int_type":
        return _as_whole_number(value)
    if kind == "string_type" and isinstance(value, int | float):
        return f'quote it: "{shown}"'
    return {
        "bool_type": "write true or false, in lower case and without quotes",
        "tuple_type": "write one `- ` line for each entry",
    }.get(kind, "see gpumem.yaml for its form")


def _as_whole_number(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    match = re.fullmatch(r"\s*([0-9]+)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
    if match is None or (match[2] and match[2] not in _MIB_IN):
        return "MiB and counts are bare whole numbers, without a unit"
    return f"write {int(match[1]) * _MIB_IN.get(match[2], 1)}, without a unit and without quotes"


def _shown(document: Document, path: EstatePath) -> str:
    """What stands at `path`, as it is written there; nothing for a block."""
    text = document.texts.get(path, "").replace("\n", " ")
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
