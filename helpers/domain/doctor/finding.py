"""What doctor says: one fault each, with what shows it and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """error: a tenant suffers or will. warning: it may. info: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


_ORDER = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    `id` names the kind of fault for ever (docs/guides/operations.md lists them), `where` the object.
    `fix` says what mends it; `command` does it, copied as it is, and is empty where somebody has to think.
    """

    id: str
    severity: Severity
    where: str
    evidence: str
    fix: str
    command: str = ""


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Errors first, then by id and place: the same cluster gives the same list."""
    return tuple(sorted(set(findings), key=lambda one: (_ORDER.index(one.severity), one.id, one.where, one.evidence)))
