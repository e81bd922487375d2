"""JSON pointers (RFC 6901), as patches of objects use them."""

from __future__ import annotations


def escaped(key: str) -> str:
    """`key` as one step of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")
