"""JSON patches in CEL, as a MutatingAdmissionPolicy writes them."""

from __future__ import annotations


def add(path: str, value: str) -> str:
    """CEL of one operation that adds `value` at `path`; both are expressions."""
    return f'JSONPatch{{op: "add", path: {path}, value: {value}}}'


def remove(path: str) -> str:
    """CEL of one operation that removes what is at `path`."""
    return f'JSONPatch{{op: "remove", path: {path}}}'
