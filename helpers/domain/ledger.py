"""The ledger: who owns which MiB, per node and per card.

Built from a valid or an over-committed estate alike (review needs both); `seated` says which.
Elastic tenants are listed with whether they would fit right now beside the always-on ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Gpu, Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.seating import Pod, Room, Seating, Slot, seat


@dataclass(frozen=True)
class Seat:
    """One pod on one card."""

    tenant: str
    ordinal: int
    budget_mib: int


@dataclass(frozen=True)
class Card:
    """One card of one node and the pods that the seating put there."""

    node_index: int
    gpu_index: int
    model: str
    physical_mib: int
    advertised_mib: int
    seats: tuple[Seat, ...]
    mig_number: int | None = None

    @property
    def seated_mib(self) -> int:
        """Sum of the budgets on this card."""
        return sum(seat.budget_mib for seat in self.seats)

    @property
    def slack_mib(self) -> int:
        """Advertised MiB of this card that nobody was promised."""
        return self.advertised_mib - self.seated_mib


@dataclass(frozen=True)
class TenantLine:
    """One tenant in the ledger.

    `shares` is what one pod asks for, none with a claim; `slots` are where its pods sit, in pod order.
    """

    tenant: Tenant
    shares: int
    pods_count: int
    slots: tuple[Slot, ...]
    can_roll: bool
    fits_now: bool

    @property
    def cards(self) -> tuple[tuple[int, int], ...]:
        """`(node_index, gpu_index)` of its pods, in pod order."""
        return tuple((slot.node_index, slot.gpu_index) for slot in self.slots)

    @property
    def budget_sum_mib(self) -> int:
        """MiB that all pods of the tenant hold together, without surge."""
        return self.tenant.budget_mib * self.pods_count

    @property
    def surge_mib(self) -> int:
        """MiB that a rolling update asks for on top."""
        return self.tenant.budget_mib * self.tenant.surge_count()

    @property
    def shares_sum_count(self) -> int:
        """Shares that all pods of the tenant hold together."""
        return self.shares * self.pods_count


@dataclass(frozen=True)
class NodeLedger:
    """One kind of node: `min_nodes` machines, their cards, and the tenants declared for them."""

    node: Node
    lines: tuple[TenantLine, ...]
    cards: tuple[Card, ...]
    seated: bool
    seating_proved: bool

    @property
    def always_on(self) -> tuple[TenantLine, ...]:
        """Tenants that must always have their place."""
        return tuple(line for line in self.lines if not line.tenant.elastic)

    @property
    def elastic(self) -> tuple[TenantLine, ...]:
        """Tenants that may stay Pending."""
        return tuple(line for line in self.lines if line.tenant.elastic)

    @property
    def advertised_mib(self) -> int:
        """MiB that all always-there nodes of this kind advertise."""
        return self.node.advertised_mib * self.node.min_nodes

    @property
    def always_on_mib(self) -> int:
        """MiB promised to always-on tenants."""
        return sum(line.budget_sum_mib for line in self.always_on)

    @property
    def slack_mib(self) -> int:
        """Advertised minus promised; negative when over-committed."""
        return self.advertised_mib - self.always_on_mib

    @property
    def shares_count(self) -> int:
        """Shares of all always-there nodes of this kind."""
        return self.node.shares_count() * self.node.min_nodes

    @property
    def always_on_shares_count(self) -> int:
        """Shares promised to always-on tenants."""
        return sum(line.shares_sum_count for line in self.always_on)


@dataclass(frozen=True)
class Ledger:
    """All kinds of nodes of an estate, in the estate's order."""

    nodes: tuple[NodeLedger, ...]

    def line(self, tenant_name: str) -> TenantLine | None:
        """The line of the tenant called `tenant_name`, or None."""
        return next((line for node in self.nodes for line in node.lines if line.tenant.name == tenant_name), None)


def build_ledger(estate: Estate) -> Ledger:
    """The ledger of `estate`. Tenants whose node does not exist are left to `estate_checks`."""
    tenants: dict[str, list[Tenant]] = {node.name: [] for node in estate.nodes}
    for tenant in estate.tenants:
        if tenant.node in tenants:
            tenants[tenant.node].append(tenant)
    # pop: of two entries with one name (an error of its own) the first has the tenants.
    return Ledger(tuple(_node_ledger(estate, node, tenants.pop(node.name, [])) for node in estate.nodes))


def _node_ledger(estate: Estate, node: Node, tenants: list[Tenant]) -> NodeLedger:
    slots = slots_of(node)
    always_on = [pod for tenant in tenants if not tenant.elastic for pod in pods_of(estate, tenant)]
    seating = seat(always_on, slots, node.shares_count())
    room = Room(seating, slots, node.shares_count()) if seating.complete else None
    places: dict[str, list[Slot]] = {}
    for pod, slot in sorted(seating.seats.items(), key=lambda item: item[0].ordinal):
        places.setdefault(pod.tenant, []).append(slot)
    lines = tuple(_line(estate, tenant, room, tuple(places.get(tenant.name, ()))) for tenant in tenants)
    return NodeLedger(node, lines, _cards(node, slots, seating), seating.complete, seating.proved)


def slots_of(node: Node) -> list[Slot]:
    """Every card of the machines of `node` that are always there; of a card with MIG, every instance."""
    return [
        Slot(node_index, gpu_index, gpu.model, advertised_mib, mig_number if gpu.mig else None)
        for node_index in range(node.min_nodes)
        for gpu_index, gpu in enumerate(_gpus(node))
        for mig_number, (_, advertised_mib) in enumerate(gpu.sizes_mib())
    ]


def _gpus(node: Node) -> list[Gpu]:
    """One entry a card."""
    return [gpu for gpu in node.gpus for _ in range(gpu.count)]


def pods_of(estate: Estate, tenant: Tenant, extra: int = 0) -> list[Pod]:
    """The pods of `tenant` to seat, and `extra` more, as a rolling update starts them."""
    pinned = tenant.workload.kind == "DaemonSet"
    return [
        Pod(tenant.name, i, tenant.budget_mib, estate.shares(tenant), tenant.gpu_model, i if pinned else None)
        for i in range(estate.pods_count(tenant) + extra)
    ]


def _line(estate: Estate, tenant: Tenant, room: Room | None, slots: tuple[Slot, ...]) -> TenantLine:
    """`room`: what the always-on tenants leave; None where they have no seating, so nobody has room."""
    own = pods_of(estate, tenant) if tenant.elastic else []
    fits_now = room is not None and (not tenant.elastic or room.fits(own))
    can_roll = tenant.rolls_without_room() or room is None
    if room is not None and not can_roll:
        # One surge pod is what a rolling update needs to make a step.
        can_roll = room.fits([*own, *pods_of(estate, tenant, extra=1)[-1:]])
    return TenantLine(tenant, estate.shares(tenant), estate.pods_count(tenant), slots, can_roll, fits_now)


def _cards(node: Node, slots: list[Slot], seating: Seating) -> tuple[Card, ...]:
    physical = [[mib for mib, _ in gpu.sizes_mib()] for gpu in _gpus(node)]
    seats: dict[Slot, list[Seat]] = {slot: [] for slot in slots}
    for pod, slot in seating.seats.items():
        seats[slot].append(Seat(pod.tenant, pod.ordinal, pod.budget_mib))
    return tuple(
        Card(
            slot.node_index,
            slot.gpu_index,
            slot.model,
            physical[slot.gpu_index][slot.mig_number or 0],
            slot.advertised_mib,
            tuple(here),
            slot.mig_number,
        )
        for slot, here in seats.items()
    )
