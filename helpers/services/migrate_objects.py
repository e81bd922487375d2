"""Which rendered objects change with the backend, and when in a move they may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from helpers.domain import names
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.tenants import Tenant
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.rendering.objects import Rendered, RenderedObject, address_of

Apply = Callable[[RenderedObject], None]


class Changes:
    """Between two renderings of an estate: before and after its backend changes."""

    def __init__(self, before: Rendered, after: Rendered, field_manager: str = names.FIELD_MANAGER_TERRAFORM) -> None:
        self.field_manager = field_manager
        self._before = _by_address(before)
        self._after = _by_address(after)

    @property
    def policies(self) -> bool:
        """Whether tenants' rules at admission are objects of their own, one a tenant."""
        return not any(item.kind == "MutatingWebhookConfiguration" for item in self._after.values())

    def apply_ahead(self, apply: Apply) -> None:
        """What claims need and what hurts nobody: class, agent, and the policies that are no tenant's."""
        for item in self._changed(("dra-agent", "admission")):
            if not item.address.startswith(("admission-tenant-", "admission-binding-tenant-")):
                apply(item)

    def apply_capacity(self, apply: Apply, cluster: Cluster) -> None:
        """Who keeps the numbers is told the new ones; who has none left to keep is removed."""
        for item in self._changed(("capacity",)):
            apply(item)
        for address in self._before.keys() - self._after.keys():
            item = self._before[address]
            if item.component == "capacity":
                _delete(cluster, item)

    def refuse_webhook(self, tenant: Tenant) -> None:
        """Raises CheckFailed where the tenant's pods get their budget by a webhook."""
        if tenant.apply == "admission" and not self.policies:
            raise CheckFailed(
                f"tenant {tenant.name}: apply is admission, and the webhook's document changes for all tenants at "
                "once. Use admission.engine: policy, which Kubernetes 1.36 has."
            )

    @property
    def newest_watch(self) -> Mapping[str, str] | None:
        """The annotations by which the new capacity watch's pods are told from older ones; None: it has no watch."""
        item = self._after.get("0/capacity-watch")
        if item is None:
            return None
        annotations: Mapping[str, str] = item.manifest["spec"]["template"]["metadata"]["annotations"]
        return annotations

    def workload(self, tenant: Tenant) -> RenderedObject:
        """The workload of a `create` tenant."""
        return self._after[f"1/{address_of('tenant', tenant.name)}"]

    def templates(self, tenant: Tenant) -> Iterable[RenderedObject]:
        """The tenant's claim template, where it has one."""
        item = self._after.get(f"1/{address_of('claim-template', tenant.name)}")
        return () if item is None else (item,)

    def tenant_policies(self, tenant: Tenant) -> Iterable[RenderedObject]:
        """The tenant's rule at admission."""
        found = ("admission-tenant", "admission-binding-tenant")
        items = (self._after.get(f"0/{address_of(family, tenant.name)}") for family in found)
        return tuple(item for item in items if item is not None)

    def of_tenant(self, tenant: Tenant) -> Iterable[RenderedObject]:
        """Everything of the tenant that is rendered: its template, its rule and, where it is ours, its workload."""
        workload = (self.workload(tenant),) if tenant.apply == "create" else ()
        return (*self.templates(tenant), *self.tenant_policies(tenant), *workload)

    def _changed(self, components: tuple[str, ...]) -> Iterable[RenderedObject]:
        for address, item in self._after.items():
            before = self._before.get(address)
            if item.component in components and (before is None or before.manifest != item.manifest):
                yield item


def _by_address(rendered: Rendered) -> dict[str, RenderedObject]:
    """`{wave/address: object}` in the order in which they are applied."""
    items = [item for item in rendered.ordered() if isinstance(item, RenderedObject)]
    return {f"{item.wave}/{item.address}": item for item in items}


def _delete(cluster: Cluster, item: RenderedObject) -> None:
    metadata = item.manifest["metadata"]
    ref = ObjectRef(item.manifest["apiVersion"], item.manifest["kind"], metadata["name"], metadata.get("namespace", ""))
    found = cluster.get(ref)
    if found is not None:
        cluster.delete(ref, uid=found["metadata"]["uid"], cascade=True)
