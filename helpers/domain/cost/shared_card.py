"""The bill of one shared card: MiB-seconds, and every part of the card's price in exactly one line.

At each instant the card's physical MiB are divided, in this order:

1. **overhead**: physical - advertised, the reserve. Nobody is promised it.
2. **held**: each tenant's budget while it is held, in three lines where use was measured: **used**
   and **unused**; **unmeasured** where it was not, because unknown is not zero. Held more than is
   advertised (budgets on a node's sum may meet on one card): each pays its proportion of advertised.
3. **above budget**: use over the budget, as far as nobody holds that memory. Several who are above
   share what is there in proportion. What is above *that* lies in memory that others pay for, so it
   is reported and not charged twice.
4. **idle**: advertised, held by nobody, and used by no tenant above its budget.

ADR 0014 has the reasons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from helpers.domain.cost.money import (
    MICROSECOND,
    MICROSECONDS_PER_SECOND,
    SECONDS_PER_HOUR,
    exact_seconds,
    require_utc,
    usd_parts,
)
from helpers.domain.cost.price_history import PricedSpan


class Part(StrEnum):
    """What a line of a card's bill is for."""

    USED = "used"
    UNUSED = "unused"
    UNMEASURED = "unmeasured"
    ABOVE_BUDGET = "above_budget"
    IDLE = "idle"
    OVERHEAD = "overhead"


HELD = (Part.USED, Part.UNUSED, Part.UNMEASURED)


@dataclass(frozen=True, slots=True)
class Card:
    """One card and what of it is promised."""

    uuid: str
    physical_mib: int
    advertised_mib: int

    def __post_init__(self) -> None:
        if not 0 < self.advertised_mib <= self.physical_mib:
            raise ValueError(
                f"card {self.uuid}, advertised_mib = {self.advertised_mib}: 1 to physical_mib, {self.physical_mib}"
            )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """MiB of one tenant on the card, from one instant to another, both in UTC."""

    tenant: str
    mib: int
    from_at: datetime
    to_at: datetime

    def __post_init__(self) -> None:
        require_utc(self.from_at, f"{self.tenant}, from_at")
        require_utc(self.to_at, f"{self.tenant}, to_at")
        if self.mib < 0 or self.to_at < self.from_at:
            raise ValueError(
                f"{self.tenant}: {self.mib} MiB from {self.from_at} to {self.to_at}: neither may be negative"
            )


class Budgeted(_Stretch):
    """A pod of the tenant holds a budget on the card. Pods of one tenant add up."""


class Measured(_Stretch):
    """What the tenant used on the card, all its pods together. Where no stretch lies, use is unknown."""


@dataclass(frozen=True, slots=True)
class CardLine:
    """`tenant` None: idle and overhead, which are the estate's own."""

    part: Part
    tenant: str | None
    mib_seconds: Fraction
    cost: Fraction


@dataclass(frozen=True, slots=True)
class CardBill:
    """A card from `from_at` to `to_at`. The lines' MiB-seconds and costs sum to the card's own, exactly."""

    card: Card
    from_at: datetime
    to_at: datetime
    lines: tuple[CardLine, ...]
    unpriced_seconds: Fraction
    uncharged_overshoot_mib_seconds: Fraction
    overcommitted_mib_seconds: Fraction

    @property
    def mib_seconds(self) -> Fraction:
        """What the card had to give."""
        return self.card.physical_mib * exact_seconds(self.to_at - self.from_at)

    @property
    def cost(self) -> Fraction:
        """What the card cost, as far as it had a price."""
        return sum((line.cost for line in self.lines), Fraction(0))

    @property
    def usd(self) -> tuple[Decimal, ...] | None:
        """Each line in USD, rounded together; None where the card had no price for a part of the time."""
        return None if self.unpriced_seconds else usd_parts([line.cost for line in self.lines])

    def of(self, *parts: Part, tenant: str | None = None) -> Fraction:
        """MiB-seconds of some parts, of one tenant or (None) of everybody."""
        return sum(
            (line.mib_seconds for line in self.lines if line.part in parts and tenant in (None, line.tenant)),
            Fraction(0),
        )


def card_bill(
    card: Card, prices: Sequence[PricedSpan], budgeted: Iterable[Budgeted], measured: Iterable[Measured]
) -> CardBill:
    """The card's bill over the time that `prices` cover, without gaps (`PriceHistory.spans`).

    Raises:
        ValueError: no time, a gap between prices, or two measurements of one tenant that overlap.
    """
    if not prices or any(one.to_at != other.from_at for one, other in pairwise(prices)):
        raise ValueError(f"card {card.uuid}: prices cover the billed time without gaps; use PriceHistory.spans")
    from_at, to_at = prices[0].from_at, prices[-1].to_at
    seen = list(measured)
    _refuse_overlaps(seen)
    budgets, used = _Level(budgeted, from_at), _Level(seen, from_at)
    edges = {price.from_at: price.point for price in prices}
    instants = sorted(at for at in {*edges, *budgets.edges, *used.edges, to_at} if from_at <= at <= to_at)
    sheet = _Sheet(card)
    point = prices[0].point
    for begin_at, end_at in pairwise(instants):
        point = edges.get(begin_at, point)
        price = None if point is None else point.usd_per_gpu_hour
        sheet.add(end_at - begin_at, price, budgets.moved_to(begin_at), used.moved_to(begin_at))
    return sheet.bill(from_at, to_at)


def _refuse_overlaps(measured: Iterable[Measured]) -> None:
    ordered = sorted(measured, key=lambda one: (one.tenant, one.from_at, one.to_at))
    for one, other in pairwise(ordered):
        if one.tenant == other.tenant and other.from_at < one.to_at:
            raise ValueError(f"{one.tenant}: two measurements for {other.from_at}; add up its pods' use first")


class _Level:
    """MiB by tenant, moved forward in time from edge to edge."""

    def __init__(self, stretches: Iterable[_Stretch], from_at: datetime) -> None:
        self.edges: dict[datetime, list[tuple[str, int, int]]] = defaultdict(list)
        self._now: dict[str, tuple[int, int]] = {}
        for one in stretches:
            if one.to_at > max(from_at, one.from_at):
                self.edges[max(from_at, one.from_at)].append((one.tenant, one.mib, 1))
                self.edges[one.to_at].append((one.tenant, -one.mib, -1))

    def moved_to(self, at: datetime) -> dict[str, int]:
        """What holds from `at` on; each edge is to be visited, in order. Without a stretch a tenant is not in it."""
        for tenant, mib, count in self.edges.get(at, ()):
            held_mib, stretches_count = self._now.get(tenant, (0, 0))
            self._now[tenant] = (held_mib + mib, stretches_count + count)
            if not self._now[tenant][1]:
                del self._now[tenant]
        return {tenant: held_mib for tenant, (held_mib, _) in self._now.items()}


_Line = tuple[Part, str | None]


class _Sum:
    """Many fractions, added up at the end: numerators by denominator, so that none grows on the way."""

    def __init__(self) -> None:
        self._numerators: dict[int, int] = defaultdict(int)

    def add(self, amount: Fraction, times: int) -> None:
        """Adds `amount` so many times."""
        self._numerators[amount.denominator] += amount.numerator * times

    @property
    def seconds(self) -> Fraction:
        """The sum of what was added with microseconds as `times`."""
        parts = (Fraction(numerator, denominator) for denominator, numerator in self._numerators.items())
        return sum(parts, Fraction(0)) / MICROSECONDS_PER_SECOND


class _Sheet:
    """Sums while the time goes by, each price apart."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._lines: dict[tuple[_Line, Decimal | None], _Sum] = defaultdict(_Sum)
        self._uncharged, self._overcommitted = _Sum(), _Sum()
        self._unpriced = timedelta()

    def add(self, span: timedelta, price: Decimal | None, budgets: dict[str, int], used: dict[str, int]) -> None:
        """One span in which nothing changes."""
        microseconds = span // MICROSECOND
        division = divide(self._card, budgets, used)
        for line, mib in division.parts.items():
            self._lines[line, price].add(mib, microseconds)
        self._uncharged.add(division.uncharged_overshoot_mib, microseconds)
        self._overcommitted.add(division.overcommitted_mib, microseconds)
        if price is None:
            self._unpriced += span

    def bill(self, from_at: datetime, to_at: datetime) -> CardBill:
        """The lines that are not zero: tenants by name, then idle and overhead."""
        order = list(Part)
        found: dict[_Line, CardLine] = {}
        for (line, price), amount in self._lines.items():
            mib_seconds = amount.seconds
            cost = Fraction(price or 0) * mib_seconds / (self._card.physical_mib * SECONDS_PER_HOUR)
            before = found.get(line, CardLine(*line, Fraction(0), Fraction(0)))
            found[line] = CardLine(*line, before.mib_seconds + mib_seconds, before.cost + cost)
        lines = sorted(found.values(), key=lambda one: (one.tenant is None, one.tenant or "", order.index(one.part)))
        return CardBill(
            self._card,
            from_at,
            to_at,
            tuple(one for one in lines if one.mib_seconds),
            exact_seconds(self._unpriced),
            self._uncharged.seconds,
            self._overcommitted.seconds,
        )


@dataclass(frozen=True, slots=True)
class Division:
    """The card's MiB at one instant; `parts` sum to physical."""

    parts: dict[_Line, Fraction]
    uncharged_overshoot_mib: Fraction
    overcommitted_mib: Fraction


def divide(card: Card, budgets: dict[str, int], used: dict[str, int]) -> Division:
    """Whose each MiB is. `used` lacks the tenants whose use is unknown."""
    parts: dict[_Line, Fraction] = {}
    held_mib = sum(budgets.values())
    scale = min(Fraction(1), Fraction(card.advertised_mib, held_mib)) if held_mib else Fraction(1)
    for tenant, budget_mib in budgets.items():
        held = budget_mib * scale
        if tenant in used:
            parts[Part.USED, tenant] = min(Fraction(used[tenant]), held)
            parts[Part.UNUSED, tenant] = held - parts[Part.USED, tenant]
        else:
            parts[Part.UNMEASURED, tenant] = held
    unheld = card.advertised_mib - held_mib * scale
    overshoots = {tenant: max(0, mib - budgets.get(tenant, 0)) for tenant, mib in used.items()}
    overshoot_mib = sum(overshoots.values())
    charged = min(Fraction(overshoot_mib), unheld)
    for tenant, above_mib in overshoots.items():
        if above_mib:
            parts[Part.ABOVE_BUDGET, tenant] = charged * above_mib / overshoot_mib
    parts[Part.IDLE, None] = unheld - charged
    parts[Part.OVERHEAD, None] = Fraction(card.physical_mib - card.advertised_mib)
    return Division(parts, overshoot_mib - charged, held_mib - held_mib * scale)
