"""What leases are granted by: the coordinator's settings document holds it beside its lanes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from helpers.domain.estate.leases import Leases
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import NodeLedger, build_ledger


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardRule(_Settings):
    """One card and what of it is promised: `{tenant: MiB}` of the always-on tenants that the seating put there."""

    gpu_index: int
    advertised_mib: int
    promised_mib: dict[str, int] = {}


class NodeRule(_Settings):
    """One machine with its cards, and where its free memory is measured."""

    node: str
    exporter_url: str
    floor_mib: int
    cards: tuple[CardRule, ...]


class HolderRule(_Settings):
    """A tenant that may hold leases. `room_mib`: its budget, of all its pods; `kind`, `name`: its workload."""

    tenant: str
    namespace: str
    kind: str
    name: str
    node: str
    room_mib: int
    service_accounts: tuple[str, ...]


class LeaseSettings(_Settings):
    """All that leases are decided by, but for the lanes."""

    holders: tuple[HolderRule, ...]
    nodes: tuple[NodeRule, ...]
    lane_nodes: dict[str, str] = {}
    """`{tenant: node}` of every lane's tenant, so that the jobs that run there are counted."""
    ttl_seconds: float
    longest_wait_seconds: int
    audience: str = ""
    tls_secret: str | None = None

    def holder(self, tenant: str) -> HolderRule | None:
        """The rule of that tenant; None: it may hold none."""
        return next((rule for rule in self.holders if rule.tenant == tenant), None)

    def node(self, name: str) -> NodeRule:
        """The node entry of that name; KeyError where there is none (validate excludes that)."""
        return {rule.node: rule for rule in self.nodes}[name]


def lease_settings(estate: Estate) -> LeaseSettings | None:
    """The settings of a valid `estate`; None where it declares no leases."""
    coordinator = estate.coordinator
    block = coordinator.leases if coordinator is not None else None
    if coordinator is None or block is None:
        return None
    holders = tuple(_holder(estate, block, index) for index in range(len(block.tenants)))
    wanted = {holder.node for holder in holders}
    ledgers = [ledger for ledger in build_ledger(estate).nodes if ledger.node.name in wanted]
    urls = exporter_urls(estate)
    return LeaseSettings(
        holders=holders,
        nodes=tuple(_node(ledger, urls[ledger.node.name], estate.watchdog.floor_mib) for ledger in ledgers),
        lane_nodes={
            tenant.name: tenant.node
            for tenant in estate.tenants
            if tenant.name in {lane.tenant for lane in coordinator.lanes if lane.queues}
        },
        ttl_seconds=block.ttl_seconds,
        longest_wait_seconds=block.longest_wait_seconds,
        audience=block.audience,
        tls_secret=block.tls_secret,
    )


def exporter_urls(estate: Estate) -> dict[str, str]:
    """`{node: URL}` of the exporters that the coordinator's engines name."""
    engines = estate.coordinator.engines if estate.coordinator is not None else ()
    tenants = {tenant.name: tenant for tenant in estate.tenants}
    return {
        tenants[engine.tenant].node: engine.exporter_url
        for engine in reversed(engines)
        if engine.exporter_url is not None and engine.tenant in tenants
    }


def _holder(estate: Estate, block: Leases, index: int) -> HolderRule:
    entry = block.tenants[index]
    tenant = estate.tenant(entry.tenant)
    if tenant is None:
        raise KeyError(entry.tenant)  # validate excludes that
    return HolderRule(
        tenant=tenant.name,
        namespace=tenant.namespace,
        kind=tenant.workload.kind,
        name=tenant.workload.name,
        node=tenant.node,
        room_mib=tenant.budget_mib * estate.pods_count(tenant),
        service_accounts=entry.service_accounts,
    )


def _node(ledger: NodeLedger, exporter_url: str, floor_mib: int) -> NodeRule:
    cards = []
    for card in ledger.cards:
        promised: dict[str, int] = {}
        for seat in card.seats:
            promised[seat.tenant] = promised.get(seat.tenant, 0) + seat.budget_mib
        cards.append(CardRule(gpu_index=card.gpu_index, advertised_mib=card.advertised_mib, promised_mib=promised))
    return NodeRule(node=ledger.node.name, exporter_url=exporter_url, floor_mib=floor_mib, cards=tuple(cards))
