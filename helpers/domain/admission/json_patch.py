"""What changed between two JSON values, as a JSON patch (RFC 6902) that a person can read in an audit log.

Only `add`, `remove` and `replace`, as deep down as the change is, and never a move: an API server
writes the patch into its audit log, and there "add /spec/volumes/2" should be what happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def json_patch(before: Any, after: Any, at: str = "") -> list[Operation]:
    """Operations that make `before` into `after`, in their order; empty where the two are equal."""
    return list(_operations(before, after, at))


def _operations(before: Any, after: Any, at: str) -> Iterator[Operation]:
    if _same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _members(before, after, at)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _elements(before, after, at)
    else:
        yield {"op": "replace", "path": at, "value": after}


def _members(before: dict[str, Any], after: dict[str, Any], at: str) -> Iterator[Operation]:
    for key in sorted(before.keys() - after.keys()):
        yield {"op": "remove", "path": _below(at, key)}
    for key, value in after.items():
        if key in before:
            yield from _operations(before[key], value, _below(at, key))
        else:
            yield {"op": "add", "path": _below(at, key), "value": value}


def _elements(before: list[Any], after: list[Any], at: str) -> Iterator[Operation]:
    """Equal elements at both ends stay; what is between is changed in place, then added to or cut."""
    shorter = min(len(before), len(after))
    first = next((i for i in range(shorter) if not _same(before[i], after[i])), shorter)
    kept = next((i for i in range(shorter - first) if not _same(before[-1 - i], after[-1 - i])), shorter - first)
    old, new = before[first : len(before) - kept], after[first : len(after) - kept]
    for index, (one, other) in enumerate(zip(old, new, strict=False), first):
        yield from _operations(one, other, _below(at, str(index)))
    for index in range(len(old), len(new)):
        yield {"op": "add", "path": _below(at, str(first + index)), "value": new[index]}
    for index in reversed(range(len(new), len(old))):
        yield {"op": "remove", "path": _below(at, str(first + index))}


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON: to Python `True == 1`, to an API server they are two things."""
    # Most of a pod does not change, and what does not change is the very same object: rules copy only what they change.
    if one is other:
        return True
    if one != other:
        return False
    if repr(one) == repr(other):
        return True
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        pair = isinstance(other, list) and len(one) == len(other)
        return pair and all(_same(each, like) for each, like in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def _below(at: str, key: str) -> str:
    return f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
