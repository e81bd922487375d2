"""What those who ask for leases may: a virtual resource whose objects are the tenants."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.rights import Right


def holder_rights(tenant: str) -> tuple[Right, ...]:
    """What a ServiceAccount gets that may ask for the leases of `tenant`, in the tenant's namespace."""
    why = f"asks for leases of {tenant}, renews them and gives them back"
    return (Right(names.LEASE_GROUP, names.LEASE_RESOURCE, names.LEASE_VERBS, why, "tenants", (tenant,)),)
