"""What a fixed cluster would have cost, and what was paid for cards that nobody held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from helpers.domain.cost.held import Charge, Segment, cost_of
from helpers.domain.cost.money import Cost, exact_hours, usd
from helpers.domain.cost.price_table import CapacityType

# What the reference wants against a fixed cluster. Printed beside what came out; nothing is tuned to it.
WANTED_SAVING_RATIO = Fraction(4, 10)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was paid, beside `count` cards that are always there."""

    fixed_usd: Decimal
    paid_usd: Decimal | None
    saved_ratio: Fraction | None
    why: str

    @property
    def as_wanted(self) -> bool | None:
        """Whether the saving is what the reference wants; None where it is not known."""
        return None if self.saved_ratio is None else self.saved_ratio >= WANTED_SAVING_RATIO


def against_fixed(paid: Cost, fixed: Iterable[tuple[int, Decimal]], span: timedelta) -> Comparison:
    """The comparison over `span`.

    Args:
        paid: for nodes, idle time included; held time alone would leave out what autoscaling wastes.
        fixed: for each kind of card how many are always there, and USD for one and an hour.
        span: how long both ran.

    Raises:
        ValueError: a fixed cluster that costs nothing is no comparison.
    """
    cards = list(fixed)
    cost = sum((count * Fraction(price) for count, price in cards), Fraction(0)) * exact_hours(span)
    if cost <= 0:
        raise ValueError("fixed: at least one card with a price, over some time")
    if not paid.complete:
        return Comparison(usd(cost), None, None, "a part of what was paid has no price, so there is no ratio")
    saved = 1 - paid.known / cost
    count = sum(number for number, _ in cards)
    why = f"{count} cards always there; paid {float(paid.known / cost):.1%} of that"
    return Comparison(usd(cost), paid.usd, saved, why)


def peak_cards(segments: Iterable[Segment]) -> dict[str, Fraction]:
    """The most cards of each kind held at one instant: the least fixed cluster in which nobody ever waits.

    A segment that ends as another begins is not beside it. Segments must have ended.
    """
    moves: dict[str, list[tuple[datetime, Fraction]]] = defaultdict(list)
    for one in segments:
        if one.to_at is None:
            raise ValueError(f"segment of {one.job} has no end: cut it at the instant that you look at")
        if one.from_at < one.to_at:
            moves[one.gpu] += [(one.from_at, one.quantity.cards), (one.to_at, -one.quantity.cards)]
    peaks: dict[str, Fraction] = {}
    for gpu, steps in moves.items():
        held = peaks[gpu] = Fraction(0)
        for _, change in sorted(steps):  # at one instant the ends come first: they are negative
            held += change
            peaks[gpu] = max(peaks[gpu], held)
    return peaks


@dataclass(frozen=True, slots=True)
class IdleCost:
    """Paid for one kind of card and not held. None: unknown; `why` says what contradicts or lacks."""

    paid_usd: Decimal | None
    held_usd: Decimal | None
    idle_usd: Decimal | None
    idle_ratio: Fraction | None
    why: str


def idle_costs(nodes: Iterable[Charge], held: Iterable[Charge]) -> dict[tuple[str, CapacityType], IdleCost]:
    """By card and capacity type: what the nodes cost less what jobs held on them, over the same time."""
    paid, used = _by_kind(nodes), _by_kind(held)
    return {key: _idle(cost_of(paid[key]), cost_of(used[key])) for key in sorted({*paid, *used})}


def _by_kind(found: Iterable[Charge]) -> dict[tuple[str, CapacityType], list[Charge]]:
    kinds: dict[tuple[str, CapacityType], list[Charge]] = defaultdict(list)
    for charge in found:
        kinds[charge.segment.gpu, charge.segment.capacity_type].append(charge)
    return kinds


def _idle(paid: Cost, held: Cost) -> IdleCost:
    if not (paid.complete and held.complete):
        return IdleCost(paid.usd, held.usd, None, None, "a part of the time has no price")
    if held.known > paid.known:
        return IdleCost(paid.usd, held.usd, None, None, "more was held than paid for: a node is missing in the record")
    ratio = 1 - held.known / paid.known if paid.known else None
    return IdleCost(paid.usd, held.usd, usd(paid.known - held.known), ratio, "paid for nodes less held by jobs")
