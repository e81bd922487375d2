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

_BLOCK_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

# Beyond these a file is not written by hand: an alias refers to itself, or multiplies itself.
_MOST_LEVELS = 60
_MOST_VALUES = 200_000


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
    """One parsed YAML document: its value, where each path begins, and each scalar as it is written."""

    value: Any = None
    places: dict[EstatePath, tuple[int, int]] = field(default_factory=dict)
    texts: dict[EstatePath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: EstatePath) -> tuple[int, int]:
        """Line and column of `path`, or of its nearest parent that is in the file."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))


def dotted(path: EstatePath) -> str:
    """`("tenants", 2, "budget_mib")` → `tenants[2].budget_mib`; keys with dots stand as `["a.b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[^.\[\]\"]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def parse_path(text: str) -> EstatePath:
    """The inverse of `dotted`."""
    matches = re.finditer(r'\["(.*?)"\]|([^.\[\]]+)|\[(\d+)\]', text)
    return tuple(int(match[3]) if match[3] is not None else match[1] or match[2] for match in matches)


def read_document(text: str) -> Document:
    """Parse `text` as one YAML document; syntax errors and repeated keys become `problems`."""
    document = Document()
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                document.value = _Builder(loader, document).build(node, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        rule, repair = _syntax_rule(error)
        document.problems.append(_problem(place, "", rule, repair))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        rule = f"the file is text, and character {error.position + 1} (U+{error.character:04X}) is no text"
        document.problems.append(_problem((line, 1), "", rule, "save it as UTF-8 text"))
    except RecursionError:
        document.problems.append(_problem((1, 1), "", "the file is YAML of a sane depth", "remove brackets"))
    return document


def _syntax_rule(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    problem = str(error.problem or error.context)
    if problem == "but found another document":
        return "an estate file holds one document; a second one begins here", "remove it, and the line ---"
    if "'\\t'" in problem:
        return "YAML is indented with spaces, never with tabs", "replace the tab by spaces"
    return f"the file is YAML: {problem}", "correct the YAML at or just before this place"


def _problem(place: tuple[int, int], path: str, rule: str, repair: str) -> Problem:
    return Problem(path or "(file)", "", rule, repair, line=place[0], column=place[1])


class _TooDeep(yaml.MarkedYAMLError):
    """A document that an anchor makes endless or enormous."""


class _Builder:
    """Turns nodes into values and notes where each one stands."""

    def __init__(self, loader: _CoreLoader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._built_count = 0

    def build(self, node: yaml.Node, path: EstatePath) -> Any:
        self._built_count += 1
        if len(path) > _MOST_LEVELS or self._built_count > _MOST_VALUES:
            raise _TooDeep(problem="an alias makes it endless", problem_mark=node.start_mark)
        self._document.places.setdefault(path, _place(node))
        if isinstance(node, yaml.CollectionNode) and node.tag not in _BLOCK_TAGS:
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} means nothing here", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            self._document.texts[path] = f'"{node.value}"' if node.style in ("'", '"') else str(node.value)
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # `!!int x`: PyYAML does not translate it
            problem = "a text that its tag does not allow"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def _mapping(self, node: yaml.MappingNode, path: EstatePath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(place, path, "a key is a plain word", "write `key: value`")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in built:
                rule = f"a key stands once; {key} stands already on line {self._document.places[here][0]}"
                self._report(place, here, rule, "remove one of the two")
                continue
            self._document.places[here] = place
            built[key] = self.build(value_node, here)
        return built

    def _report(self, place: tuple[int, int], path: EstatePath, rule: str, repair: str) -> None:
        self._document.problems.append(_problem(place, dotted(path), rule, repair))


def _place(node: yaml.Node) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1)
