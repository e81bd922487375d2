"""What a job, a project and a tenant cost: from the time that cards were really held.

A segment is one stretch in which one job held one amount. Waiting costs nothing; a retry is another
segment; the workers of one job are several segments at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from helpers.domain.cost.money import Cost, exact_hours, exact_seconds, require_utc, summed
from helpers.domain.cost.price_history import PriceHistory, PricePoint
from helpers.domain.cost.price_table import CapacityType


@dataclass(frozen=True, slots=True)
class WholeCards:
    """Cards that nobody else may use."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count = {self.count}: at least one card is held; leave the segment out")

    @property
    def cards(self) -> Fraction:
        """The same, in cards."""
        return Fraction(self.count)


@dataclass(frozen=True, slots=True)
class CardMemory:
    """A budget on a shared card, or a MIG instance's memory: MiB out of `physical_mib`, on each of `count` cards."""

    budget_mib: int
    physical_mib: int
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.budget_mib <= self.physical_mib:
            raise ValueError(f"budget_mib = {self.budget_mib}: 1 to the card's physical_mib, {self.physical_mib}")
        if self.count < 1:
            raise ValueError(f"count = {self.count}: at least one card is held; leave the segment out")

    @property
    def cards(self) -> Fraction:
        """The same, in cards: the memory's share of one, for each."""
        return Fraction(self.budget_mib * self.count, self.physical_mib)


@dataclass(frozen=True, slots=True)
class Segment:
    """`quantity` of the card `gpu`, held from `from_at` to `to_at` (None: still). Instants in UTC.

    `project` is a namespace, `tenant` the workload or None where the job is no tenant of the estate.
    """

    job: str
    project: str
    tenant: str | None
    gpu: str
    quantity: WholeCards | CardMemory
    capacity_type: CapacityType
    from_at: datetime
    to_at: datetime | None

    def __post_init__(self) -> None:
        require_utc(self.from_at, f"segment of {self.job}, from_at")
        if self.to_at is not None:
            require_utc(self.to_at, f"segment of {self.job}, to_at")
            if self.to_at < self.from_at:
                raise ValueError(f"segment of {self.job}, to_at = {self.to_at}: not before from_at, {self.from_at}")


@dataclass(frozen=True, slots=True)
class Charge:
    """A part of a segment that has one price; `point` None: no price is known."""

    segment: Segment
    from_at: datetime
    to_at: datetime
    point: PricePoint | None

    @property
    def cost(self) -> Cost:
        """Price x cards x hours, rounded nowhere."""
        cards, span = self.segment.quantity.cards, self.to_at - self.from_at
        if self.point is None:
            return Cost(unpriced_card_seconds=cards * exact_seconds(span))
        return Cost(Fraction(self.point.usd_per_gpu_hour) * cards * exact_hours(span))


def charges(segments: Iterable[Segment], history: PriceHistory, from_at: datetime, to_at: datetime) -> Iterator[Charge]:
    """What was held between two instants, cut where a price changes.

    `to_at` is the end of the month or now, whichever is earlier: a segment that is still open is charged up to it.
    A segment over a month's end is charged in each month for its part, and the parts add up.
    """
    for segment in segments:
        begin_at = max(segment.from_at, from_at)
        end_at = min(segment.to_at or to_at, to_at)
        if begin_at < end_at:
            for span in history.spans(segment.gpu, segment.capacity_type, begin_at, end_at):
                yield Charge(segment, span.from_at, span.to_at, span.point)


def cost_of(found: Iterable[Charge]) -> Cost:
    """All of it together."""
    return summed(charge.cost for charge in found)


def costs_by(found: Iterable[Charge], key: Callable[[Segment], str | None]) -> dict[str | None, Cost]:
    """Costs by job, project or tenant: `costs_by(found, lambda segment: segment.project)`; sorted, None last."""
    costs: dict[str | None, Cost] = {}
    for charge in found:
        name = key(charge.segment)
        costs[name] = costs.get(name, Cost()) + charge.cost
    return dict(sorted(costs.items(), key=lambda item: (item[0] is None, item[0] or "")))
