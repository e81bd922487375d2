"""The budget's fields in a workload that somebody else owns: what is put in and what is given back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from helpers.domain.dra.claims import CLAIM, claim_template_name
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.quantity import canonical_count

API_VERSION = "apps/v1"


class WorkloadIdentity(BaseModel):
    """Which foreign workload: all that giving the fields back needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str
    namespace: str
    kind: str
    workload: str

    def released_manifest(self) -> dict[str, Any]:
        """The object with no field of ours: applying it gives back everything the manager owned."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {"name": self.workload, "namespace": self.namespace},
        }

    def to_triggers(self) -> dict[str, str]:
        """Flat strings, as `null_resource.triggers` holds them and as a plan shows them."""
        return {key: str(value) for key, value in self.model_dump().items()}


class BudgetFields(WorkloadIdentity):
    """The numbers, and where they go. `shares` 0 leaves the share resource alone.

    With a `claim_template` the budget is that claim, and there are no numbers.
    """

    container: str
    resource: str
    budget_mib: int
    share_resource: str
    shares: int
    claim_template: str = ""

    def limits(self) -> dict[str, str]:
        """`resources.limits` of the container. The request follows from the limit at pod creation."""
        if self.claim_template:
            return {}
        limits = {self.resource: canonical_count(self.budget_mib)}
        if self.shares:
            limits[self.share_resource] = canonical_count(self.shares)
        return limits

    def manifest(self) -> dict[str, Any]:
        """The partial object for a server-side apply: only the fields that are ours."""
        pod: dict[str, Any] = {"containers": [{"name": self.container, "resources": {"limits": self.limits()}}]}
        if self.claim_template:
            pod["containers"][0]["resources"] = {"claims": [{"name": CLAIM}]}
            pod["resourceClaims"] = [{"name": CLAIM, "resourceClaimTemplateName": self.claim_template}]
        return {**self.released_manifest(), "spec": {"template": {"spec": pod}}}

    def to_triggers(self) -> dict[str, str]:
        """Without the claim where there is none: nothing else changes for an estate that has no claims."""
        triggers = super().to_triggers()
        return triggers if self.claim_template else {k: v for k, v in triggers.items() if k != "claim_template"}

    def text(self) -> str:
        """What is set, for messages: `example.com/gpumem=3k`, or `claim template gpumem-llm-3000`."""
        if self.claim_template:
            return f"claim template {self.claim_template}"
        return ", ".join(f"{resource}={amount}" for resource, amount in self.limits().items())


def workload_identity(tenant: Tenant) -> WorkloadIdentity:
    """Which workload `tenant` is."""
    return WorkloadIdentity(
        tenant=tenant.name, namespace=tenant.namespace, kind=tenant.workload.kind, workload=tenant.workload.name
    )


def budget_fields(estate: Estate, tenant: Tenant) -> BudgetFields:
    """The budget's fields of `tenant`."""
    return BudgetFields(
        **workload_identity(tenant).model_dump(),
        container=tenant.workload.container,
        resource=estate.resource,
        budget_mib=tenant.budget_mib,
        share_resource=estate.node(tenant.node).share_resource(),
        shares=estate.shares(tenant),
        claim_template=claim_template_name(estate, tenant) if estate.is_claimed(tenant) else "",
    )
