"""Who owns a tenant's budget in its workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.domain.doctor.facts import Manifest
from helpers.domain.dra.claims import CLAIM

_POD = ("f:spec", "f:template", "f:spec")


def owned(owners: list[str]) -> str:
    """As findings say it."""
    return f"owned by {' and '.join(owners)}" if owners else "nobody's"


def owners_of_limit(workload: Manifest, container: str, resource: str) -> list[str]:
    """The field managers that own one limit of one container, in order."""
    path = (*_POD, "f:containers", f'k:{{"name":"{container}"}}', "f:resources", "f:limits")
    return _owners(workload, path, f"f:{resource}")


def owners_of_claim(workload: Manifest) -> list[str]:
    """The field managers that own what the budget's claim is made from, in order."""
    path = (*_POD, "f:resourceClaims", f'k:{{"name":"{CLAIM}"}}')
    return _owners(workload, path, "f:resourceClaimTemplateName")


def _owners(workload: Manifest, path: Sequence[str], last: str) -> list[str]:
    found = set()
    for entry in workload["metadata"].get("managedFields") or ():
        fields: Any = entry.get("fieldsV1") or {}
        for key in path:
            fields = fields.get(key) or {}
        if last in fields:
            found.add(str(entry["manager"]))
    return sorted(found)
