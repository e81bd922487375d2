"""Read an estate file: all problems at once, each with file, line, path, value, rule, repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from helpers.domain.errors import EstateInvalid, InputError, Problem
from helpers.domain.estate import Estate
from helpers.domain.estate_checks import check_estate, did_you_mean
from helpers.rendering.yaml_source import Document, EstatePath, dotted, parse_path, read_document

_LONGEST_SHOWN = 60


def load_estate(path: Path, *, allow_overcommit: bool = False) -> tuple[Estate, list[Problem]]:
    """The estate in `path` and its warnings.

    `allow_overcommit` leaves out the always-on arithmetic, for review, which judges it.

    Raises:
        EstateInvalid: at least one error; carries every problem found.
        InputError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}. Name the estate with -f FILE.") from error
    return parse_estate(text, str(path), allow_overcommit=allow_overcommit)


def parse_estate(text: str, file: str, *, allow_overcommit: bool = False) -> tuple[Estate, list[Problem]]:
    """`load_estate` on text; `file` is only named in problems."""
    document = read_document(text)
    problems = list(document.problems)
    estate: Estate | None = None
    if not any(problem.path == "(file)" for problem in problems):
        estate, found = _validate(document)
        problems += found
    if estate is not None:
        problems += _placed(document, check_estate(estate, allow_overcommit=allow_overcommit))
    problems = sorted((replace(p, file=file) for p in problems), key=lambda p: (p.line, p.column, p.path, p.rule))
    if estate is None or any(problem.severity == "error" for problem in problems):
        raise EstateInvalid(problems)
    return estate, problems


def _validate(document: Document) -> tuple[Estate | None, list[Problem]]:
    if not isinstance(document.value, Mapping):
        rule = "an estate is a mapping that begins with version: 1"
        return None, [Problem("(file)", _shown(document.value), rule, "start from gpumem.yaml", line=1, column=1)]
    try:
        return Estate.model_validate(document.value), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = _merge_union_branches([_schema_problem(document, detail) for detail in details])
        # Unknown keys do not keep the arithmetic from being checked: the rest may be whole without them.
        if all(detail["type"] == "extra_forbidden" for detail in details):
            rest = _without(document.value, [detail["loc"] for detail in details])
            return Estate.model_validate(rest), problems
        return None, problems


def _merge_union_branches(problems: list[Problem]) -> list[Problem]:
    """An `int | str` field fails once a branch; a person wants it once."""
    merged: dict[tuple[str, int, int], Problem] = {}
    for problem in problems:
        merged.setdefault((problem.path, problem.line, problem.column), problem)
    return list(merged.values())


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
    if detail["type"] != "missing":
        # pydantic adds the union branch or the model's name to the place; the file knows neither.
        while path and path not in document.places:
            path = path[:-1]
    line, column = document.place(path)
    rule, repair = _rule_and_repair(detail, path)
    shown = "" if detail["type"] == "missing" or isinstance(detail["input"], Mapping) else _shown(detail["input"])
    return Problem(dotted(path) or "(file)", shown, rule, repair, line=line, column=column)


def _rule_and_repair(detail: ErrorDetails, path: EstatePath) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "estate_rule":
        return str(context["rule"]), str(context["repair"])
    if kind == "extra_forbidden":
        return "unknown key", did_you_mean(str(path[-1]), _known_keys(path[:-1]))
    if kind == "missing":
        return "this key is required", f"add {path[-1]}: {_description(path)}"
    if kind == "literal_error":
        return f"one of {context['expected']}", did_you_mean(str(detail["input"]), _words(str(context["expected"])))
    wanted = _WANTED.get(kind)
    if wanted is not None:
        return wanted, _write_as(kind, detail["input"])
    return detail["msg"][:1].lower() + detail["msg"][1:], _description(path)


_WANTED = {
    "int_type": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
}


def _write_as(kind: str, value: Any) -> str:
    if kind == "int_type":
        bare = isinstance(value, str) and value.strip().isdigit()
        return f"write it as a bare number: {value.strip()}" if bare else "MiB and counts are bare numbers, no unit"
    if kind == "string_type" and isinstance(value, int | float):
        return f'quote it: "{value}"'
    return {"bool_type": "write true or false", "tuple_type": "write one `- ` line for each entry"}.get(
        kind, "see gpumem.yaml for its form"
    )


def _words(expected: str) -> list[str]:
    return expected.replace("'", "").replace(" or ", ", ").split(", ")


def _shown(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


@cache
def estate_schema() -> dict[str, Any]:
    """The estate as a JSON Schema (draft 2020-12), for editors and for `did you mean`."""
    schema = Estate.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:gpumem:estate:1",
        **schema,
        "title": "gpumem estate",
    }


def _schema_at(path: EstatePath) -> dict[str, Any]:
    root = estate_schema()
    current = root
    for part in path:
        current = _resolved(root, current)
        current = current.get("items", {}) if isinstance(part, int) else current.get("properties", {}).get(part, {})
    return _resolved(root, current, keep_description=True)


def _resolved(root: dict[str, Any], node: dict[str, Any], *, keep_description: bool = False) -> dict[str, Any]:
    description = node.get("description")
    for option in (node, *node.get("anyOf", ())):
        if "$ref" in option:
            node = root["$defs"][option["$ref"].rpartition("/")[2]]
            break
    return {**node, "description": description} if keep_description and description else node


def _known_keys(path: EstatePath) -> list[str]:
    return list(_schema_at(path).get("properties", {}))


def _description(path: EstatePath) -> str:
    text = str(_schema_at(path).get("description", "")).split("\n", maxsplit=1)[0]
    return text or "see gpumem.yaml for its form"
