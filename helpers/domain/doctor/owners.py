"""Who owns a tenant's budget in its workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.doctor.commands import apply_objects, gpumem
from helpers.domain.doctor.facts import DoctorFacts, Manifest, name_of
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.dra.claims import CLAIM
from helpers.domain.estate.tenants import Tenant

_POD = ("f:spec", "f:template", "f:spec")


def budget_findings(
    facts: DoctorFacts, tenant: Tenant, shown: str, owners: list[str], field: tuple[str, str]
) -> Iterator[Finding]:
    """What is wrong with the budget in the tenant's workload, or with whose it is.

    `shown`: what differs from the estate; empty where nothing does. `field`: what the budget is there, as a finding
    and as the repair call it.
    """
    called, out = field
    if shown:
        set_again = gpumem(facts, "budget", "set", tenant.name, "--force")
        yield Finding(
            "budget-drift",
            Severity.ERROR,
            f"tenant {tenant.name}",
            f"{name_of(tenant)}: {shown}; the field is {_owned(owners)}",
            "write it again, and tell its other owner to leave the field alone",
            set_again if tenant.apply == "patch" else apply_objects(facts, name_of(tenant)),
        )
    elif len(owners) > 1:
        ours = names.FIELD_MANAGER_BUDGET if tenant.apply == "patch" else facts.estate.field_manager()
        yield Finding(
            "budget-two-owners",
            Severity.WARNING,
            f"tenant {tenant.name}",
            f"{name_of(tenant)}: the {called} is {_owned(owners)}; they agree now, and the first that changes it wins",
            f"take {out} out of the manifest of the owner that is not {ours}, and apply it",
        )


def _owned(owners: list[str]) -> str:
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
