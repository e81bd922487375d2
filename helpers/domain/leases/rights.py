"""Rights about leases: of those who ask, on a virtual resource whose objects are the tenants; and of who serves."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.rights import Right


def holder_rights(tenant: str) -> tuple[Right, ...]:
    """What a ServiceAccount gets that may ask for the leases of `tenant`, in the tenant's namespace."""
    why = f"asks for leases of {tenant}, renews them and gives them back"
    return (Right(names.LEASE_GROUP, names.LEASE_RESOURCE, names.LEASE_VERBS, why, "tenants", (tenant,)),)


def serving_rights() -> tuple[Right, ...]:
    """What the coordinator gets on top where it serves leases. Events only in the namespaces of holders."""
    return (
        Right("authentication.k8s.io", "tokenreviews", ("create",), "whose token a request for a lease carries"),
        Right("authorization.k8s.io", "subjectaccessreviews", ("create",), "whether its owner may ask for that tenant"),
        Right("", "events", ("create",), "leases refused or expired, on the pod that asked", "tenants"),
    )
