"""Money: exact while it is summed, Decimal USD when it leaves, and the one rounding rule.

Prices are Decimal, amounts of memory and time whole numbers, so sums are exact fractions: a third of
an hour and a seventh of a card lose nothing on the way. An amount is rounded once, at its end:
ROUND_HALF_EVEN to 0.0001 USD. Parts rounded one by one may miss their sum by a unit, so the parts of
one bill are rounded together (`usd_parts`). Messages for people show cents of the rounded amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

UNIT_USD = Decimal("0.0001")
_UNITS_PER_USD = 10_000
MICROSECOND = timedelta(microseconds=1)
MICROSECONDS_PER_SECOND = 1_000_000
SECONDS_PER_HOUR = 3600


def usd(exact: Fraction) -> Decimal:
    """The rounded amount. Python rounds a fraction half to even, exactly."""
    return _of_units(round(exact * _UNITS_PER_USD))


def usd_parts(exact: Sequence[Fraction]) -> tuple[Decimal, ...]:
    """The parts of one bill, none negative, rounded so that their sum is the rounded sum.

    Each part is cut to whole units; the units that are then missing go to the parts with the largest
    remainders, the earlier first where two are equal.
    """
    units = [part * _UNITS_PER_USD for part in exact]
    whole = [int(part) for part in units]
    missing_count = round(sum(units, Fraction(0))) - sum(whole)
    by_remainder = sorted(range(len(units)), key=lambda index: (whole[index] - units[index], index))
    lifted = set(by_remainder[:missing_count])
    return tuple(_of_units(count + (index in lifted)) for index, count in enumerate(whole))


def _of_units(count: int) -> Decimal:
    return Decimal(count).scaleb(-4)


def exact_seconds(span: timedelta) -> Fraction:
    """The span in seconds, without a float in between."""
    return Fraction(span // MICROSECOND, MICROSECONDS_PER_SECOND)


def exact_hours(span: timedelta) -> Fraction:
    """The span in hours, without a float in between."""
    return exact_seconds(span) / SECONDS_PER_HOUR


def require_utc(at: datetime, place: str) -> None:
    """Refuses an instant that is not in UTC.

    Raises:
        ValueError: a wall clock's time, or another zone's: months would begin at another instant.
    """
    if at.utcoffset() != timedelta(0):
        raise ValueError(f"{place} = {at.isoformat()}: an aware instant in UTC; convert it with astimezone(UTC)")


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known of a cost. `unpriced_card_seconds`: time of whole cards for which there was no price."""

    known: Fraction = Fraction(0)
    unpriced_card_seconds: Fraction = Fraction(0)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.known + other.known, self.unpriced_card_seconds + other.unpriced_card_seconds)

    @property
    def complete(self) -> bool:
        """Whether every second had a price."""
        return not self.unpriced_card_seconds

    @property
    def known_usd(self) -> Decimal:
        """The priced part, rounded: the cost is at least this."""
        return usd(self.known)

    @property
    def usd(self) -> Decimal | None:
        """The whole cost, rounded; None where a part has no price, because unknown is not zero."""
        return self.known_usd if self.complete else None


def summed(costs: Iterable[Cost]) -> Cost:
    """The sum, rounded nowhere."""
    return sum(costs, Cost())


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC: the month of budgets."""

    year: int
    number: int

    @classmethod
    def of(cls, at: datetime) -> Month:
        """The month that holds the instant `at`, of whichever zone."""
        there = at.astimezone(UTC)
        return cls(there.year, there.month)

    @property
    def from_at(self) -> datetime:
        """Its first instant."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def to_at(self) -> datetime:
        """The first instant after it."""
        return datetime(self.year + self.number // 12, self.number % 12 + 1, 1, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"
