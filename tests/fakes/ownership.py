"""Field ownership as the API server keeps it, for the kinds that the tests use.

An object's leaves are paths in the API's own spelling (`f:spec`, `k:{"name":"main"}`, …), so that
`managedFields` written from them reads like the real thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]

KEYED_LISTS = ("containers", "initContainers", "webhooks")
# Never owned: they say which object it is, or belong to the server.
_IDENTITY = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")


@dataclass(frozen=True)
class Manager:
    """One entry of managedFields."""

    name: str
    operation: str
    subresource: str


def leaves(item: Mapping[str, Any], subresource: str) -> dict[Path, Any]:
    """The fields that a write to `subresource` may own, with their values."""
    body: dict[str, Any] = {key: value for key, value in item.items() if key not in ("apiVersion", "kind")}
    body["metadata"] = {key: value for key, value in body.get("metadata", {}).items() if key not in _IDENTITY}
    status = body.pop("status", {})
    found: dict[Path, Any] = {}
    _collect({"status": status} if subresource == "status" else body, (), found)
    return {path: value for path, value in found.items() if path not in {("f:metadata",), ("f:status",)}}


def _collect(value: Any, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            _collect_member(key, inner, (*path, f"f:{key}"), found)
    elif path:
        found[path] = value


def _collect_member(key: str, value: Any, path: Path, found: dict[Path, Any]) -> None:
    if key in KEYED_LISTS:
        for member in value:
            name = json.dumps({"name": member["name"]}, separators=(",", ":"))
            _collect(member, (*path, f"k:{name}"), found)
    else:
        _collect(value, path, found)


def put(item: dict[str, Any], path: Path, value: Any) -> None:
    """Sets the field at `path`, making what leads there."""
    place: Any = item
    for step, after in zip(path, (*path[1:], ""), strict=True):
        place = _enter(place, step, value if not after else ([] if after.startswith("k:") else {}), last=not after)


def _enter(place: Any, step: str, value: Any, *, last: bool) -> Any:
    if step.startswith("k:"):
        name = json.loads(step[2:])["name"]
        member = next((each for each in place if each["name"] == name), None)
        if member is None:
            member = {"name": name}
            place.append(member)
        return member
    key = step[2:]
    if last:
        place[key] = value
    return place.setdefault(key, value)


def take_out(item: dict[str, Any], path: Path) -> None:
    """Removes the field at `path` with all below it, if it is there."""
    place: Any = item
    for step in path[:-1]:
        place = _find(place, step)
        if place is None:
            return
    last = path[-1]
    if last.startswith("k:"):
        name = json.loads(last[2:])["name"]
        place[:] = [each for each in place if each["name"] != name]
    else:
        place.pop(last[2:], None)


def _find(place: Any, step: str) -> Any:
    if step.startswith("k:"):
        name = json.loads(step[2:])["name"]
        return next((each for each in place if each["name"] == name), None)
    return place.get(step[2:])


def managed_fields(owners: Mapping[Manager, Iterable[Path]], api_version: str) -> list[dict[str, Any]]:
    """`metadata.managedFields`."""
    entries = []
    for manager, paths in owners.items():
        tree: dict[str, Any] = {}
        for path in sorted(paths):
            branch = tree
            for step in path:
                branch = branch.setdefault(step, {})
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree,
        }
        entries.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
    return entries


def dotted(path: Path) -> str:
    """`.status.capacity.x`, as conflicts name a field."""
    return "".join(f"[{step[2:]}]" if step.startswith("k:") else f".{step[2:]}" for step in path)
