"""YAML read with places: every value knows its line and column, and nothing is converted by surprise.

PyYAML's own safe loader follows YAML 1.1, where `09:00` is the number 540, `no` is false and a
repeated key silently wins. Here scalars follow the YAML 1.2 core schema and a repeated key is an
error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from helpers.domain.errors import Problem

EstatePath = tuple[str | int, ...]


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema only."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - replaces the base class's table, which is a class attribute too


_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+)$"),
    list("-+.0123456789"),
)


@dataclass
class Document:
    """One parsed YAML document: its value, and where each path begins."""

    value: Any = None
    places: dict[EstatePath, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: EstatePath) -> tuple[int, int]:
        """Line and column of `path`, or of its nearest parent that is in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))


def dotted(path: EstatePath) -> str:
    """`("tenants", 2, "budget_mib")` → `tenants[2].budget_mib`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def parse_path(text: str) -> EstatePath:
    """The inverse of `dotted`, for paths whose keys hold no dot or bracket."""
    matches = re.finditer(r"([^.\[\]]+)|\[(\d+)\]", text)
    return tuple(match[1] if match[1] is not None else int(match[2]) for match in matches)


def read_document(text: str) -> Document:
    """Parse `text` as one YAML document; syntax errors and repeated keys become `problems`."""
    document = Document()
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                document.value = _build(loader, node, (), document)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.problems.append(_problem(place, "", f"the file is YAML: {error.problem}", "correct the YAML here"))
    except yaml.YAMLError as error:
        document.problems.append(_problem((1, 1), "", f"the file is YAML: {error}", "save it as UTF-8 text"))
    return document


def _problem(place: tuple[int, int], path: str, rule: str, repair: str) -> Problem:
    return Problem(path or "(file)", "", rule, repair, line=place[0], column=place[1])


def _build(loader: _CoreLoader, node: yaml.Node, path: EstatePath, document: Document) -> Any:
    document.places.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(loader, node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _build_mapping(loader: _CoreLoader, node: yaml.MappingNode, path: EstatePath, document: Document) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(_problem(place, dotted(path), "a key is a plain word", "write `key: value`"))
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in built:
            rule = f"a key stands once; {key} stands already on line {document.places[here][0]}"
            document.problems.append(_problem(place, dotted(here), rule, "remove one of the two"))
            continue
        document.places[here] = place
        built[key] = _build(loader, value_node, here, document)
    return built
