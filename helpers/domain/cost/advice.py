"""All advice about what was held over a time: each piece says why, and none acts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from helpers.domain.cost.comparison import Comparison, against_fixed, peak_cards
from helpers.domain.cost.gpu_advice import GpuAdvice, WorkClass, advise_gpu
from helpers.domain.cost.held import Segment, charges, cost_of
from helpers.domain.cost.money import Cost, exact_hours
from helpers.domain.cost.price_history import PriceHistory
from helpers.domain.cost.price_table import CapacityType, PriceTable
from helpers.domain.cost.reserved import ReservedAdvice, advise_reserved
from helpers.domain.cost.spot_mix import SpotMix, advise_mix

HOUR = timedelta(hours=1)
# The reference's classes, told from the card that was chosen: nobody says what a job is.
_CLASSES = {"A100": WorkClass.TRAINING, "H100": WorkClass.TRAINING}
LARGE_CARDS_COUNT = 8


@dataclass(frozen=True, slots=True)
class Work:
    """One stretch of held cards, and what its job says about itself.

    Attributes:
        segment: What was held, and when.
        gpu_type: The card's type.
        preemptible: Whether it may run on spot capacity.
        need_mib: The memory that it asked for on one card; None: it did not say.
        redone: Time of it that was lost to a preemption, at most.
    """

    segment: Segment
    gpu_type: str
    preemptible: bool
    need_mib: int | None
    redone: timedelta = timedelta(0)

    @property
    def work_class(self) -> WorkClass:
        """What kind of work it is taken for."""
        found = _CLASSES.get(self.gpu_type, WorkClass.INFERENCE)
        large = found is WorkClass.TRAINING and self.segment.quantity.cards >= LARGE_CARDS_COUNT
        return WorkClass.LARGE_TRAINING if large else found


@dataclass(frozen=True, slots=True)
class TypeAdvice:
    """Which card for one class of the work. `need_mib` None: no job says how much it needs, so `advice` is None."""

    work: WorkClass
    need_mib: int | None
    advice: GpuAdvice | None


@dataclass(frozen=True, slots=True)
class CardAdvice:
    """About the work on one kind of card. `mix` None: the card has no price now. `reserved` None: no offer is known."""

    gpu: str
    card_hours: Fraction
    spot_card_hours: Fraction
    mix: SpotMix | None
    reserved: ReservedAdvice | None
    types: tuple[TypeAdvice, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """All of it. `fixed` None: nothing was held, or a card has no price. `fixed_cards`: `{card: how many}`."""

    held: Cost
    cards: tuple[CardAdvice, ...]
    fixed_cards: dict[str, int]
    fixed: Comparison | None


def advise(
    works: Iterable[Work],
    history: PriceHistory,
    table: PriceTable,
    from_at: datetime,
    to_at: datetime,
    reserved_discount_ratio: Decimal | None = None,
) -> Advice:
    """Advice about what was held from `from_at` to `to_at`.

    Args:
        works: Stretches that touch the span; what lies outside of it does not count.
        history: What cards cost when.
        table: What every card costs at the end of the span, also those that nobody held.
        from_at, to_at: The span, in UTC, in the past.
        reserved_discount_ratio: By how much an offer of reserved capacity is cheaper; None: there is none.
    """
    cut = [_cut(work, from_at, to_at) for work in works]
    inside = sorted((work for work in cut if work is not None), key=lambda one: one.segment.from_at)
    segments = [work.segment for work in inside]
    by_card: dict[str, list[Work]] = defaultdict(list)
    for work in inside:
        by_card[work.segment.gpu].append(work)
    cards = tuple(
        _card(gpu, by_card[gpu], history, table, inside[0].segment.from_at, to_at, reserved_discount_ratio)
        for gpu in sorted(by_card)
    )
    held = cost_of(charges(segments, history, from_at, to_at))
    fixed_cards = {gpu: math.ceil(count) for gpu, count in sorted(peak_cards(segments).items())}
    prices = [history.at(gpu, CapacityType.ON_DEMAND, to_at) for gpu in fixed_cards]
    known = [
        (count, point.usd_per_gpu_hour)
        for count, point in zip(fixed_cards.values(), prices, strict=True)
        if point is not None
    ]
    complete = bool(fixed_cards) and len(known) == len(fixed_cards) and any(price > 0 for _, price in known)
    fixed = against_fixed(held, known, to_at - from_at) if complete else None
    return Advice(held, cards, fixed_cards, fixed)


def busy_cards(works: Sequence[Work], from_at: datetime, to_at: datetime) -> list[int]:
    """Cards held in each whole hour of the span: their mean over it, cut to whole cards."""
    count = (to_at - from_at) // HOUR
    held = [Fraction(0)] * count
    for work in works:
        segment = work.segment
        end_at = segment.to_at or to_at
        first = max(0, (segment.from_at - from_at) // HOUR)
        for number in range(first, min(count, -((from_at - end_at) // HOUR))):
            begin_at = from_at + number * HOUR
            inside = min(end_at, begin_at + HOUR) - max(segment.from_at, begin_at)
            held[number] += segment.quantity.cards * exact_hours(max(inside, timedelta(0)))
    return [int(cards) for cards in held]


def _cut(work: Work, from_at: datetime, to_at: datetime) -> Work | None:
    segment = work.segment
    begin_at, end_at = max(segment.from_at, from_at), min(segment.to_at or to_at, to_at)
    if begin_at >= end_at:
        return None
    return replace(work, segment=replace(segment, from_at=begin_at, to_at=end_at))


def _hours(works: Iterable[Work]) -> Fraction:
    return sum(
        (one.segment.quantity.cards * exact_hours((one.segment.to_at or one.segment.from_at) - one.segment.from_at)
         for one in works),
        Fraction(0),
    )  # fmt: skip


def _card(
    gpu: str,
    works: Sequence[Work],
    history: PriceHistory,
    table: PriceTable,
    from_at: datetime,
    to_at: datetime,
    reserved_discount_ratio: Decimal | None,
) -> CardAdvice:
    on_demand, spot = (history.at(gpu, kind, to_at) for kind in (CapacityType.ON_DEMAND, CapacityType.SPOT))
    on_spot = [work for work in works if work.segment.capacity_type is CapacityType.SPOT]
    spot_hours = _hours(on_spot)
    mix = reserved = None
    if on_demand is not None and spot is not None:
        redone = sum((one.segment.quantity.cards * exact_hours(one.redone) for one in on_spot), Fraction(0))
        mix = advise_mix(
            _hours(one for one in works if one.preemptible),
            _hours(one for one in works if not one.preemptible),
            on_demand.usd_per_gpu_hour,
            spot.usd_per_gpu_hour,
            redone / spot_hours if spot_hours else None,
        )
    if on_demand is not None and reserved_discount_ratio is not None:
        # Spot is cheaper than any reservation as long as it is there, so only the rest is looked at.
        steady = busy_cards([one for one in works if not one.preemptible], from_at, to_at)
        reserved = advise_reserved(steady, on_demand.usd_per_gpu_hour, reserved_discount_ratio)
    return CardAdvice(gpu, _hours(works), spot_hours, mix, reserved, _types(works, table))


def _types(works: Sequence[Work], table: PriceTable) -> tuple[TypeAdvice, ...]:
    needs: dict[WorkClass, list[int]] = defaultdict(list)
    for work in works:
        needs[work.work_class] += [] if work.need_mib is None else [work.need_mib]
    found = []
    for work_class in sorted(needs):
        need_mib = max(needs[work_class], default=None)
        advice = None if need_mib is None else advise_gpu(table, need_mib, work_class)
        found.append(TypeAdvice(work_class, need_mib, advice))
    return tuple(found)
