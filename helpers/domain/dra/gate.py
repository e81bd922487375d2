"""What keeps the gate closed where budgets are claims: cards that are not offered, or a budget counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helpers.domain.capacity import CapacitySettings, ClaimNode, NodeFacts, NodeKind, Shortfall
from helpers.domain.dra.offers import HeldMemory, OfferedCard

_NO_NUMBER = "no number beside claims (gpumem migrate --to dra, or what gpumem doctor prints)"
_CLAIMS_ALONE = "claims alone (gpumem migrate --to dra)"


def claim_shortfalls(
    settings: CapacitySettings, nodes: Sequence[NodeFacts], cards: Sequence[OfferedCard], held: Sequence[HeldMemory]
) -> tuple[Shortfall, ...]:
    """Empty when every such node offers its cards, shows no number, and no node holds budgets of both backends.

    A pod that the number let in is invisible to claims, and the other way round: together they may take
    more of a card than it has. `gpumem migrate` moves tenants without that.

    Args:
        settings: What is declared.
        nodes: The cluster's nodes, with the pods that hold budget by number.
        cards: What is offered.
        held: What claims hold.
    """
    by_number = [
        Shortfall(
            f"node {node.name}", f"still holds budgets by number: {', '.join(map(str, node.pods))}", _CLAIMS_ALONE
        )
        for node in _claim_nodes(settings, nodes)
        if node.pods
    ]
    return (
        *card_shortfalls(settings, nodes, cards),
        *numbers_shown(settings, nodes),
        *by_number,
        *_claims_on_numbered_nodes(settings, nodes, cards, held),
    )


def card_shortfalls(
    settings: CapacitySettings, nodes: Sequence[NodeFacts], cards: Sequence[OfferedCard]
) -> tuple[Shortfall, ...]:
    """Empty when every kind with claims has its nodes, and each of them offers its cards."""
    found: list[Shortfall] = []
    for kind in settings.claim_nodes:
        mine = [node for node in nodes if kind.matches(node.name, node.labels)]
        if len(mine) < kind.min_nodes:
            shown = f"{len(mine)} node(s) {_where(kind)}"
            found.append(Shortfall(f"nodes[{kind.name}]", shown, f"{kind.min_nodes}, each with {_mib(kind.cards_mib)}"))
        for node in sorted(mine, key=lambda node: node.name):
            found += offered_shortfalls(kind, node, cards, settings.claims_driver)
    return tuple(found)


def numbers_shown(settings: CapacitySettings, nodes: Sequence[NodeFacts]) -> tuple[Shortfall, ...]:
    """Nodes that show the number although their budgets are claims: by it a pod comes in that no claim sees."""
    found = []
    for node in _claim_nodes(settings, nodes):
        # The scheduler goes by what is allocatable, and a kubelet makes that from the capacity. 0 lets nobody in.
        shown_mib = max(node.capacity_mib or 0, node.allocatable_mib or 0)
        if shown_mib:
            shown = f"still shows {settings.resource}: {shown_mib} MiB"
            found.append(Shortfall(f"node {node.name}", shown, _NO_NUMBER))
    return tuple(found)


def _claim_nodes(settings: CapacitySettings, nodes: Sequence[NodeFacts]) -> list[NodeFacts]:
    mine = [node for node in nodes if any(kind.matches(node.name, node.labels) for kind in settings.claim_nodes)]
    return sorted(mine, key=lambda node: node.name)


def offered_shortfalls(
    kind: ClaimNode, node: NodeFacts, cards: Sequence[OfferedCard], driver: str
) -> Iterator[Shortfall]:
    """Whether a node of this kind does not offer its cards, each with its memory or more.

    A card with a taint, lost or with a hardware error, is in its slice for those who hold it; nobody else gets it.
    """
    here = [card for card in cards if card.node == node.name]
    offered = sorted((card.memory_mib for card in here if not card.taints), reverse=True)
    enough = len(offered) == len(kind.cards_mib) and all(
        have >= want for have, want in zip(offered, kind.cards_mib, strict=True)
    )
    if not enough:
        shown = f"{driver} offers {_mib(tuple(offered))}" if offered else f"{driver} offers no card"
        shown += "".join(f"; {card.device} has the taint {' and '.join(card.taints)}" for card in here if card.taints)
        yield Shortfall(f"node {node.name}", shown, f"{_mib(kind.cards_mib)} or more")


def _claims_on_numbered_nodes(
    settings: CapacitySettings, nodes: Sequence[NodeFacts], cards: Sequence[OfferedCard], held: Sequence[HeldMemory]
) -> Iterator[Shortfall]:
    place = {card.key: card.node for card in cards}
    for node in sorted(nodes, key=lambda node: node.name):
        if not any(kind.matches(node.name, node.labels) for kind in settings.nodes):
            continue
        here = sorted(f"{one.namespace}/{one.claim}" for one in held if place.get(one.key) == node.name)
        if here:
            shown = f"still holds budgets by claim: {', '.join(here)}"
            yield Shortfall(f"node {node.name}", shown, "the number alone (gpumem migrate --to extendedResource)")


def _where(kind: NodeKind) -> str:
    return f"named {kind.node_name}" if kind.node_name else f"with {kind.labels}"


def _mib(cards_mib: Sequence[int]) -> str:
    return f"cards of {' + '.join(map(str, cards_mib))} MiB"
