"""What becomes of each tenant: added, removed, renamed, changed; and whether and why its pods restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.review.documents import DocumentChange

Fate = Literal["added", "removed", "renamed", "handed over", "moved", "changed", "unchanged"]

# Where a tenant's documents are, by its name (`helpers.rendering.consumers`).
TENANT_FAMILY, BUDGET_FAMILY = "tenant", "budget"


@dataclass(frozen=True)
class Restart:
    """Why pods are made anew, and how: the strategy that holds in the cluster."""

    fields: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class TenantChange:
    """One tenant. `renamed_from`: the name under which the same workload stood before."""

    before: Tenant | None
    after: Tenant | None
    pods_before_count: int
    pods_after_count: int
    fate: Fate
    renamed_from: str = ""
    restart: Restart | None = None
    replaced: bool = False

    @property
    def name(self) -> str:
        """As the new estate calls it, or as the old one did."""
        return self.either.name

    @property
    def either(self) -> Tenant:
        """The tenant as it becomes, or was."""
        found = self.after or self.before
        assert found is not None, "one of the two is there"  # noqa: S101 - for the type checker
        return found

    @property
    def later(self) -> bool:
        """Whether its new budget waits for somebody else to restart its pods."""
        return (
            self.before is not None
            and self.after is not None
            and self.after.apply == "admission"
            and self.before.budget_mib != self.after.budget_mib
        )


def tenant_changes(
    base: Estate, new: Estate, changes: Sequence[DocumentChange], address_of: Mapping[tuple[str, str], str]
) -> tuple[TenantChange, ...]:
    """All tenants, in the new estate's order, then those that are gone.

    `address_of`: `{(family, tenant): address}`, as the rendering names its documents.
    """
    by_address = {change.either.address: change for change in changes if change.either.wave == 1}
    old_names = {tenant.key: tenant.name for tenant in base.tenants}
    new_names = {tenant.key: tenant.name for tenant in new.tenants}

    def change_of(tenant: Tenant) -> DocumentChange | None:
        family = TENANT_FAMILY if tenant.apply == "create" else BUDGET_FAMILY
        return by_address.get(address_of.get((family, tenant.name), ""))

    found = []
    for tenant in new.tenants:
        before = base.tenant(tenant.name)
        renamed_from = old_names.get(tenant.key, "") if before is None else ""
        found.append(_change(base, new, before, tenant, renamed_from, change_of(tenant)))
    gone = [one for one in base.tenants if new.tenant(one.name) is None and one.key not in new_names]
    return (*found, *(_change(base, new, tenant, None, "", None) for tenant in gone))


def _change(
    base: Estate,
    new: Estate,
    before: Tenant | None,
    after: Tenant | None,
    renamed_from: str,
    document: DocumentChange | None,
) -> TenantChange:
    restart = _restart(after, document) if before is not None and after is not None else None
    return TenantChange(
        before=before,
        after=after,
        pods_before_count=base.pods_count(before) if before else 0,
        pods_after_count=new.pods_count(after) if after else 0,
        fate=_fate(before, after, renamed_from, document),
        renamed_from=renamed_from,
        restart=restart,
        replaced=before is not None
        and after is not None
        and (before.key != after.key or bool(document and document.replaces)),
    )


def _fate(before: Tenant | None, after: Tenant | None, renamed_from: str, document: DocumentChange | None) -> Fate:
    if after is None:
        return "removed"
    if before is None:
        return "renamed" if renamed_from else "added"
    if before.apply != after.apply:
        return "handed over"
    if before.node != after.node:
        return "moved"
    return "unchanged" if before == after and document is None else "changed"


def _restart(tenant: Tenant, document: DocumentChange | None) -> Restart | None:
    if document is None or document.before is None or document.after is None:
        return None
    fields = document.restarts if tenant.apply == "create" else tuple(_budget_fields(document))
    return Restart(fields, how_pods_are_replaced(tenant)) if fields else None


def _budget_fields(document: DocumentChange) -> Iterator[str]:
    """A patched budget's step, told as the fields that it writes."""
    assert document.before is not None and document.after is not None, "both are there"  # noqa: S101, PT018
    old, new = document.before.body, document.after.body
    for key in ("container", "resource", "budget_mib", "share_resource", "shares"):
        if old.get(key) != new.get(key):
            yield f"{key}: {old.get(key, 'none')} → {new.get(key, 'none')}"


def how_pods_are_replaced(tenant: Tenant) -> str:
    """The strategy in words."""
    strategy = tenant.effective_strategy()
    if strategy is not None and strategy.type == "Recreate":
        return "Recreate: all its pods stop before the new ones start"
    if tenant.rolls_without_room():
        return "rolling: an old pod stops before a new one starts"
    return f"rolling with maxSurge: {tenant.surge_count()} more pod(s) must run before an old one stops"
