"""Reserved capacity: how many cards are busy so steadily that paying for all hours is cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from helpers.domain.cost.money import usd

# A day looks steady that a weekend does not.
LEAST_HOURS_COUNT = 7 * 24


@dataclass(frozen=True, slots=True)
class ReservedStep:
    """One more card: in how many hours at least `card_number` were busy, and what reserving it saves."""

    card_number: int
    busy_hours_count: int
    saved_usd: Decimal

    @property
    def pays(self) -> bool:
        """Whether it is cheaper reserved."""
        return self.saved_usd > 0


@dataclass(frozen=True, slots=True)
class ReservedAdvice:
    """`base_count` None: too little is known. Savings are over the hours looked at."""

    base_count: int | None
    saved_usd: Decimal | None
    known_hours_count: int
    unknown_hours_count: int
    steps: tuple[ReservedStep, ...]
    why: str


def advise_reserved(
    busy_by_hour: Sequence[int | None], usd_per_hour: Decimal, discount_ratio: Decimal
) -> ReservedAdvice:
    """How many cards to reserve.

    Args:
        busy_by_hour: cards busy in each hour, one after another; None where it was not measured. Give the
            work that cannot be spot: spot is cheaper than any reservation as long as it is there.
        usd_per_hour: what a busy card costs without a reservation; an unreserved idle card costs nothing.
        discount_ratio: by how much a reserved hour is cheaper; it is paid busy or not. It must come from
            an offer: no table here has one.

    The n-th card pays where it is busy in more than 1 - discount of the hours.
    """
    known = [count for count in busy_by_hour if count is not None]
    unknown_count = len(busy_by_hour) - len(known)
    if len(known) < LEAST_HOURS_COUNT:
        why = f"{len(known)} known hours; a week, {LEAST_HOURS_COUNT}, is the least that shows a steady part"
        return ReservedAdvice(None, None, len(known), unknown_count, (), why)
    price = Fraction(usd_per_hour)
    reserved_cost = price * (1 - Fraction(discount_ratio)) * len(known)
    busy = [sum(1 for count in known if count >= number) for number in range(1, max(known) + 1)]
    saved = [price * hours_count - reserved_cost for hours_count in busy]
    steps = tuple(
        ReservedStep(number, hours_count, usd(amount))
        for number, (hours_count, amount) in enumerate(zip(busy, saved, strict=True), 1)
    )
    # Each further card is busy in no more hours than the one before, so those that pay come first.
    paying = [amount for amount in saved if amount > 0]
    why = (
        f"reserved costs as much as {float(1 - discount_ratio):.0%} of the hours busy; "
        f"{len(paying)} of at most {max(known)} cards are busy longer"
    )
    return ReservedAdvice(len(paying), usd(sum(paying, Fraction(0))), len(known), unknown_count, steps, why)
