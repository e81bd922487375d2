"""What keeps the gate closed where budgets are claims: cards that are not offered, or a budget counted twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helpers.domain.capacity import CapacitySettings, ClaimNode, NodeFacts, NodeKind, Shortfall
from helpers.domain.dra.offers import HeldMemory, OfferedCard


def claim_shortfalls(
    settings: CapacitySettings, nodes: Sequence[NodeFacts], cards: Sequence[OfferedCard], held: Sequence[HeldMemory]
) -> tuple[Shortfall, ...]:
    """Empty when every such node offers its cards, and no node holds budgets of both backends.

    A pod that the number let in is invisible to claims, and the other way round: together they may take
    more of a card than it has. `gpumem migrate` moves tenants without that.

    Args:
        settings: What is declared.
        nodes: The cluster's nodes, with the pods that hold budget by number.
        cards: What is offered.
        held: What claims hold.
    """
    found: list[Shortfall] = []
    for kind in settings.claim_nodes:
        mine = [node for node in nodes if kind.matches(node.name, node.labels)]
        if len(mine) < kind.min_nodes:
            shown = f"{len(mine)} node(s) {_where(kind)}"
            found.append(Shortfall(f"nodes[{kind.name}]", shown, f"{kind.min_nodes}, each with {_mib(kind.cards_mib)}"))
        for node in sorted(mine, key=lambda node: node.name):
            found += offered_shortfalls(kind, node, cards, settings.claims_driver)
            if node.pods:
                pods = ", ".join(map(str, node.pods))
                shown = f"still holds budgets by number: {pods}"
                found.append(Shortfall(f"node {node.name}", shown, "claims alone (gpumem migrate --to dra)"))
    return (*found, *_claims_on_numbered_nodes(settings, nodes, cards, held))


def offered_shortfalls(
    kind: ClaimNode, node: NodeFacts, cards: Sequence[OfferedCard], driver: str
) -> Iterator[Shortfall]:
    """Whether a node of this kind does not offer its cards, each with its memory or more."""
    offered = sorted((card.memory_mib for card in cards if card.node == node.name), reverse=True)
    enough = len(offered) == len(kind.cards_mib) and all(
        have >= want for have, want in zip(offered, kind.cards_mib, strict=True)
    )
    if not enough:
        shown = f"{driver} offers {_mib(tuple(offered))}" if offered else f"{driver} offers no card"
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
