"""The estate's form as a JSON Schema: for editors, for the reference page, and for `did you mean`."""

from __future__ import annotations

from functools import cache
from typing import Any

from helpers.domain.estate.model import Estate
from helpers.rendering.yaml_source import EstatePath


@cache
def estate_schema() -> dict[str, Any]:
    """The estate as a JSON Schema (draft 2020-12)."""
    schema = Estate.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:gpumem:estate:1",
        **schema,
        "title": "gpumem estate",
    }


def known_keys(path: EstatePath) -> list[str]:
    """The keys that the block at `path` may hold."""
    return list(_schema_at(path).get("properties", {}))


def described(path: EstatePath) -> str:
    """What the key at `path` is for, in one line."""
    text = str(_schema_at(path).get("description", "")).split("\n", maxsplit=1)[0]
    return text or "see gpumem.yaml for its form"


def resolved(node: dict[str, Any], *, keep_description: bool = False) -> dict[str, Any]:
    """`node` with its `$ref` followed, also where the ref is one branch of an optional key."""
    description = node.get("description")
    for option in (node, *node.get("anyOf", ())):
        if "$ref" in option:
            node = estate_schema()["$defs"][option["$ref"].rpartition("/")[2]]
            break
    return {**node, "description": description} if keep_description and description else node


def _schema_at(path: EstatePath) -> dict[str, Any]:
    current = estate_schema()
    for part in path:
        current = resolved(current)
        current = current.get("items", {}) if isinstance(part, int) else current.get("properties", {}).get(part, {})
    return resolved(current, keep_description=True)
