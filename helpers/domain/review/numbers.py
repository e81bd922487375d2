"""Per node and per card: advertised, promised, slack and shares, before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.ledger import NodeLedger, slots_of
from helpers.domain.review.model import CardRow, CardSide, NodeRow, NodeSide, Seat
from helpers.domain.review.places import Places
from helpers.domain.seating import Slot


@dataclass(frozen=True)
class Side:
    """One kind of node at one time: its ledger, who has a place, `{tenant: pods that wait}`."""

    estate: Estate
    entry: NodeLedger
    places: Places
    waiting: Mapping[str, int]

    @property
    def node(self) -> Node:
        """The estate's entry."""
        return self.entry.node


def node_row(name: str, renamed_from: str, before: Side | None, after: Side | None) -> NodeRow:
    """Both sides of one kind of node; its cards are paired by their place."""
    old, new = _cards(before), _cards(after)
    keys = sorted({*old, *new})
    machines = max((side.node.min_nodes for side in (before, after) if side is not None), default=1)
    cards = tuple(
        CardRow(
            node=name, card=str(gpu) if machines == 1 else f"{machine}/{gpu}", before=old.get(key), after=new.get(key)
        )
        for key in keys
        for machine, gpu in [key]
    )
    return NodeRow(name=name, renamed_from=renamed_from, before=_node(before), after=_node(after), cards=cards)


def gpus_of(node: Node) -> str:
    """`GPU 0 (Tesla T4)`; where there are several, how many of which."""
    if node.card_count == 1 and node.min_nodes == 1:
        return f"GPU 0 ({node.gpus[0].model})"
    cards = ", ".join(f"{gpu.count} x {gpu.model}" for gpu in node.gpus)
    return f"{cards}{'' if node.min_nodes == 1 else f' on each of {node.min_nodes} machines'}"


def room_mib(side: Side) -> int:
    """The most that one more pod could find on a card, by the seating; 0 where there is no card."""
    return max(
        (card.advertised_mib - sum(seat.mib for seat in card.seats) for card in _cards(side).values()), default=0
    )


def _node(side: Side | None) -> NodeSide | None:
    if side is None:
        return None
    entry = side.entry
    return NodeSide(
        machines_count=entry.node.min_nodes,
        advertised_mib=entry.advertised_mib,
        promised_mib=entry.always_on_mib,
        slack_mib=entry.slack_mib,
        shares_count=entry.shares_count,
        promised_shares_count=entry.always_on_shares_count,
        waiting=tuple(_waiting(side, tenant, count) for tenant, count in sorted(side.waiting.items())),
    )


def _waiting(side: Side, name: str, pods_count: int) -> Seat:
    tenant = side.estate.tenant(name)
    assert tenant is not None, "who waits is declared"  # noqa: S101 - for the type checker
    mib, shares_count = tenant.budget_mib * pods_count, side.estate.shares(tenant) * pods_count
    return Seat(tenant=name, pods_count=pods_count, mib=mib, shares_count=shares_count, elastic=tenant.elastic)


def _cards(side: Side | None) -> dict[tuple[int, int], CardSide]:
    if side is None:
        return {}
    seats: dict[tuple[int, int], dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for pod, slot in side.places.seats.items():
        seats[slot.node_index, slot.gpu_index][pod.tenant].append((pod.budget_mib, pod.shares))
    for pod in side.places.beyond:
        # It runs on its machine; on which card nobody knows.
        seats[pod.node_index or 0, 0][pod.tenant].append((pod.budget_mib, pod.shares))
    cards: dict[tuple[int, int], list[Slot]] = defaultdict(list)
    for slot in slots_of(side.node):
        cards[slot.node_index, slot.gpu_index].append(slot)  # several where a card is cut by MIG
    found = {}
    for card, slots in cards.items():
        here = tuple(_seat(side, tenant, pods) for tenant, pods in sorted(seats[card].items()))
        advertised_mib = sum(slot.advertised_mib for slot in slots)
        alone = len(cards) == 1
        promised_mib = side.entry.always_on_mib if alone else sum(seat.mib for seat in here if not seat.elastic)
        found[card] = CardSide(
            model=slots[0].model,
            advertised_mib=advertised_mib,
            promised_mib=promised_mib,
            slack_mib=advertised_mib - promised_mib,
            shares_count=side.node.replicas_per_card,
            seats=here,
        )
    return found


def _seat(side: Side, name: str, pods: list[tuple[int, int]]) -> Seat:
    tenant = side.estate.tenant(name)
    return Seat(
        tenant=name,
        pods_count=len(pods),
        mib=sum(mib for mib, _ in pods),
        shares_count=sum(shares for _, shares in pods),
        elastic=tenant is not None and tenant.elastic,
    )
