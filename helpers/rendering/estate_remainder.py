"""What is left to judge of an estate whose form is wrong in places.

A person wants all errors at once: a misspelt key in one tenant must not hide that the others
over-commit the card. So the broken parts are taken out, and the arithmetic is done on the rest.
Taking a tenant away only ever lowers what is asked for, so an error found in the rest is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from helpers.domain.errors import Problem
from helpers.rendering.yaml_source import EstatePath

# Blocks that the arithmetic does not read, and what can stand there without raising a problem.
_STAND_INS: dict[str, Any] = {
    "version": 1,
    "kubernetes": {"version": "1.36"},
    "resource": "example.com/stand-in",
    "image": {"repository": "stand-in", "tag": "0"},
    "device_plugin": {"managed_by": "gpu-operator"},
    "watchdog": {"floor_mib": 1},
    "tenants": [],
}
_LISTS = ("nodes", "tenants", "priority_classes", "quotas")


@dataclass(frozen=True)
class Remainder:
    """An estate without its broken parts. `kept[block]`: each remaining entry's index in the file."""

    value: dict[str, Any]
    kept: dict[str, list[int]]

    def in_file(self, problem: Problem) -> Problem:
        """`problem` of the remainder with the indices that its entries have in the file."""
        return replace(problem, path=self._renumbered(problem.path), rule=self._renumbered(problem.rule))

    def _renumbered(self, text: str) -> str:
        def number(match: re.Match[str]) -> str:
            return f"{match[1]}[{self.kept[match[1]][int(match[2])]}]"

        return re.sub(rf"\b({'|'.join(_LISTS)})\[(\d+)\]", number, text)


def remainder_of(value: Mapping[str, Any], broken: Iterable[EstatePath]) -> Remainder | None:
    """`value` without what `broken` names, or None where too little is left to judge."""
    whole, entries = _broken_parts(value, broken)
    if "nodes" in whole:
        return None
    rest = {key: block for key, block in value.items() if key not in whole}
    rest |= {key: stand_in for key, stand_in in _STAND_INS.items() if key in whole}
    if not _drop_tenants_of_broken_nodes(rest, entries):
        return None
    kept = {
        key: [index for index in range(len(rest.get(key, ()))) if index not in entries.get(key, set())]
        for key in _LISTS
    }
    rest |= {key: [rest[key][index] for index in kept[key]] for key in _LISTS if key in rest}
    if not rest["nodes"]:
        return None
    if entries.get("tenants") or "tenants" in whole:
        # Whether a quota's namespace has a tenant, and a lane its own, cannot be told without all tenants.
        rest.pop("quotas", None)
        rest.pop("coordinator", None)
    if entries.get("priority_classes") or "priority_classes" in whole:
        rest["tenants"] = [{k: v for k, v in tenant.items() if k != "priority"} for tenant in rest["tenants"]]
    return Remainder(rest, kept)


def _broken_parts(value: Mapping[str, Any], broken: Iterable[EstatePath]) -> tuple[set[str], dict[str, set[int]]]:
    """Top-level keys that are broken as a whole, and broken entries of the lists."""
    whole: set[str] = set()
    entries: dict[str, set[int]] = {}
    for path in broken:
        key = str(path[0]) if path else "nodes"
        if key in _LISTS and len(path) > 1 and isinstance(path[1], int) and isinstance(value.get(key), list):
            entries.setdefault(key, set()).add(path[1])
        else:
            whole.add(key)
    return whole, entries


def _drop_tenants_of_broken_nodes(rest: Mapping[str, Any], entries: dict[str, set[int]]) -> bool:
    """Mark tenants on broken nodes as broken; False where a broken node's name cannot be read."""
    names = [rest["nodes"][index].get("name") for index in entries.get("nodes", ()) if _is_block(rest["nodes"][index])]
    if len(names) < len(entries.get("nodes", ())) or not all(isinstance(name, str) for name in names):
        return False
    for index, tenant in enumerate(rest["tenants"]):
        if _is_block(tenant) and tenant.get("node") in names:
            entries.setdefault("tenants", set()).add(index)
    return True


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping)
