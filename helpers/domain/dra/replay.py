"""Which card each pod gets when the scheduler places pods one after the other.

kube-scheduler's allocator takes the first device, in the order of the slice, that has room. So the order
of the pods decides, and a set for which a seating exists can still leave one of them Pending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CardRoom:
    """One card of a node, in the order of its slice, and what is left of it."""

    name: str
    left_mib: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One pod's claim. `model`: only cards of this one."""

    name: str
    budget_mib: int
    model: str | None = None


def replay(cards: Sequence[CardRoom], asks: Sequence[Ask]) -> dict[str, str | None]:
    """`{pod: card, or None where it stays Pending}` for one node, pods in the scheduler's order."""
    left_mib: dict[str, int] = {card.name: card.left_mib for card in cards}
    placed: dict[str, str | None] = {}
    for ask in asks:
        placed[ask.name] = _first_with_room(cards, left_mib, ask)
        card = placed[ask.name]
        if card is not None:
            left_mib[card] -= ask.budget_mib
    return placed


def _first_with_room(cards: Sequence[CardRoom], left_mib: Mapping[str, int], ask: Ask) -> str | None:
    return next(
        (card.name for card in cards if ask.model in (None, card.model) and left_mib[card.name] >= ask.budget_mib),
        None,
    )
