"""What the fake API server refuses, stores, merges and selects."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from helpers.domain.quantity import Quantity
from helpers.ports.cluster import Manifest, ObjectRef
from tests.fakes.ownership import Manager, Path, take_out

_AMOUNTS = ("capacity", "allocatable", "limits", "requests")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

Object = dict[str, Any]


def checked(manifest: Object) -> ObjectRef:
    """Which object it is, after refusing what no API server would store."""
    metadata = manifest["metadata"]
    ref = ObjectRef(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", ""))
    assert _NAME.fullmatch(ref.name), f"{ref}: no Kubernetes name"
    template = manifest["spec"] if ref.kind == "Pod" else manifest.get("spec", {}).get("template", {}).get("spec")
    if ref.kind in ("Pod", "Deployment", "StatefulSet", "DaemonSet"):
        assert template, f"{ref} has no pod spec"
        assert template.get("containers"), f"{ref} has no container"
    for container in (template or {}).get("containers", []):
        limits = container.get("resources", {}).get("limits", {})
        for resource, amount in container.get("resources", {}).get("requests", {}).items():
            if "/" in resource:
                assert limits.get(resource) == amount, f"{ref}: an extended resource's request equals its limit"
    return ref


def canonicalise(value: Any) -> None:
    """Spells every amount as the API server stores it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            # A device's capacity holds more than amounts.
            if key in _AMOUNTS and isinstance(inner, dict) and not any(isinstance(one, dict) for one in inner.values()):
                # The API server never shows another spelling, nor a number that it cannot read.
                value[key] = {name: Quantity.parse(amount).canonical() for name, amount in inner.items()}
            elif key != "managedFields":
                canonicalise(inner)
    elif isinstance(value, list):
        for inner in value:
            canonicalise(inner)


def prune(after: Object, released: set[Path], owners: Mapping[Manager, set[Path]]) -> None:
    """Removes released fields, each with the highest parent below which nobody owns anything."""
    owned = set().union(*owners.values())
    for path in released:
        for length in range(1 if path[0] == "f:status" else 2, len(path) + 1):
            if not any(each[:length] == path[:length] for each in owned):
                take_out(after, path[:length])
                break


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = copy.deepcopy(dict(target)) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def selected(item: Manifest, field_selector: str) -> bool:
    """Whether the field selector takes the item."""
    fields = {
        "spec.nodeName": item.get("spec", {}).get("nodeName", ""),
        "status.phase": item.get("status", {}).get("phase", ""),
        "metadata.name": item["metadata"]["name"],
    }
    for term in (term for term in field_selector.split(",") if term):
        field, negated, wanted = re.fullmatch(r"([^!=]+)(!?)=(.*)", term).groups()  # type: ignore[union-attr]
        if (fields[field] == wanted) == bool(negated):
            return False
    return True
