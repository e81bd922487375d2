"""The allocation report: shares and budgets per node, tenant and card, and what a cluster adds to it.

Fields that only a cluster can fill are None in a report made from the file alone: unknown, not zero.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from helpers.domain.admission.cap import HeldBy
from helpers.domain.admission.tenant_rules import held_by
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.ledger import Card, NodeLedger, TenantLine, build_ledger
from helpers.domain.seating import Slot


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class TenantState(_Report):
    """What the cluster shows of a tenant. `reason` is the scheduler's own, for Pending pods.

    `cards` are those that its pods' claims have memory of, `node/device`: not the seating's guess.
    """

    running_count: int
    pending_count: int
    other_count: int
    reason: str = ""
    cards: tuple[str, ...] = ()

    def text(self) -> str:
        """`1 Running`, `1 Running on worker-0/gpu-1`, `1 Pending`, `no pods`."""
        where = f" on {', '.join(self.cards)}" if self.cards else ""
        counts = {f"Running{where}": self.running_count, "Pending": self.pending_count, "other": self.other_count}
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no pods"


class TenantRow(_Report):
    """One tenant. `cards` are `node/gpu` indices of the seating that the check found.

    `held_by` is what stops an allocation beyond the budget, as far as the estate can tell.
    """

    tenant: str
    namespace: str
    workload: str
    workload_class: str = Field(serialization_alias="class")
    elastic: bool
    pods_count: int
    shares: int
    shares_sum_count: int
    budget_mib: int
    budget_sum_mib: int
    held_by: HeldBy
    cards: tuple[str, ...]
    state: TenantState | None = None


class CardRow(_Report):
    """One card and who sits on it."""

    card: str
    model: str
    physical_mib: int
    advertised_mib: int
    seated_mib: int
    slack_mib: int
    tenants: tuple[str, ...]


class LiveCardRow(_Report):
    """One card as claims have it now. `tenants` are names, or `namespace/claim` where no tenant's label is on it."""

    card: str
    uuid: str
    model: str
    offered_mib: int
    claimed_mib: int
    tenants: tuple[str, ...]


class NodeRow(_Report):
    """One kind of node. `shown_mib` is `{node: allocatable MiB or None}` as the cluster shows it."""

    name: str
    nodes_count: int
    gpus: tuple[str, ...]
    physical_mib: int
    advertised_mib: int
    always_on_mib: int
    slack_mib: int
    shares_count: int
    always_on_shares_count: int
    share_resource: str
    seated: bool
    tenants: tuple[TenantRow, ...]
    cards: tuple[CardRow, ...]
    shown_mib: dict[str, int | None] | None = None
    live_cards: tuple[LiveCardRow, ...] = ()


class Report(_Report):
    """The whole estate."""

    resource: str
    live: bool
    nodes: tuple[NodeRow, ...]


class ComparedTenant(_Report):
    """One tenant before and after; None where it does not exist then."""

    node: str
    tenant: str
    namespace: str
    shares_before: int | None
    shares_after: int | None
    budget_before_mib: int | None
    budget_after_mib: int | None


class ComparedNode(_Report):
    """One kind of node before and after; None where it does not exist then."""

    name: str
    shares_count_before: int | None
    shares_count_after: int | None
    advertised_before_mib: int | None
    advertised_after_mib: int | None
    tenants: tuple[ComparedTenant, ...]


class Comparison(_Report):
    """Two estates side by side."""

    nodes: tuple[ComparedNode, ...]


def static_report(estate: Estate) -> Report:
    """The report that the file alone can give."""
    nodes = tuple(_node_row(entry) for entry in build_ledger(estate).nodes)
    return Report(resource=estate.resource, live=False, nodes=nodes)


def _node_row(entry: NodeLedger) -> NodeRow:
    node = entry.node
    return NodeRow(
        name=node.name,
        nodes_count=node.min_nodes,
        gpus=tuple(f"{gpu.count} x {gpu.model}" for gpu in node.gpus),
        physical_mib=node.physical_mib * node.min_nodes,
        advertised_mib=entry.advertised_mib,
        always_on_mib=entry.always_on_mib,
        slack_mib=entry.slack_mib,
        shares_count=entry.shares_count,
        always_on_shares_count=entry.always_on_shares_count,
        share_resource=node.share_resource(),
        seated=entry.seated,
        tenants=tuple(_tenant_row(line, node) for line in entry.lines),
        cards=tuple(_card_row(card, node.min_nodes) for card in entry.cards),
    )


def _card_name(one: Card | Slot, nodes_count: int) -> str:
    """`1`, `0/1` where there are several nodes, `1-mig-2` for the third instance of a card."""
    part = "" if one.mig_number is None else f"-mig-{one.mig_number}"
    return f"{one.gpu_index}{part}" if nodes_count == 1 else f"{one.node_index}/{one.gpu_index}{part}"


def _tenant_row(line: TenantLine, node: Node) -> TenantRow:
    tenant = line.tenant
    return TenantRow(
        tenant=tenant.name,
        namespace=tenant.namespace,
        workload=f"{tenant.workload.kind}/{tenant.workload.name}",
        workload_class=tenant.workload_class,
        elastic=tenant.elastic,
        pods_count=line.pods_count,
        shares=line.shares,
        shares_sum_count=line.shares_sum_count,
        budget_mib=tenant.budget_mib,
        budget_sum_mib=line.budget_sum_mib,
        held_by=held_by(node, tenant),
        cards=tuple(_card_name(slot, node.min_nodes) for slot in line.slots),
    )


def _card_row(card: Card, nodes_count: int) -> CardRow:
    return CardRow(
        card=_card_name(card, nodes_count),
        model=card.model,
        physical_mib=card.physical_mib,
        advertised_mib=card.advertised_mib,
        seated_mib=card.seated_mib,
        slack_mib=card.slack_mib,
        tenants=tuple(seat.tenant for seat in card.seats),
    )


def compare(before: Report, after: Report) -> Comparison:
    """Both reports, node by node and tenant by tenant, in the order of `after`, then what is gone."""
    old = {node.name: node for node in before.nodes}
    new = {node.name: node for node in after.nodes}
    names = [*new, *(name for name in old if name not in new)]
    return Comparison(nodes=tuple(_compare_node(name, old.get(name), new.get(name)) for name in names))


def _compare_node(name: str, old: NodeRow | None, new: NodeRow | None) -> ComparedNode:
    old_rows = {row.tenant: row for row in old.tenants} if old else {}
    new_rows = {row.tenant: row for row in new.tenants} if new else {}
    tenants = [*new_rows, *(tenant for tenant in old_rows if tenant not in new_rows)]
    return ComparedNode(
        name=name,
        shares_count_before=old.shares_count if old else None,
        shares_count_after=new.shares_count if new else None,
        advertised_before_mib=old.advertised_mib if old else None,
        advertised_after_mib=new.advertised_mib if new else None,
        tenants=tuple(_compare_tenant(name, old_rows.get(tenant), new_rows.get(tenant)) for tenant in tenants),
    )


def _compare_tenant(node: str, old: TenantRow | None, new: TenantRow | None) -> ComparedTenant:
    either = new or old
    assert either is not None, "a compared tenant is in one of the two reports"  # noqa: S101 - for the type checker
    return ComparedTenant(
        node=node,
        tenant=either.tenant,
        namespace=either.namespace,
        shares_before=old.shares_sum_count if old else None,
        shares_after=new.shares_sum_count if new else None,
        budget_before_mib=old.budget_sum_mib if old else None,
        budget_after_mib=new.budget_sum_mib if new else None,
    )
