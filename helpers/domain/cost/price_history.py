"""Which price held when: a price may change while a card is held."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from itertools import pairwise

from helpers.domain.cost.money import require_utc
from helpers.domain.cost.price_data import TABLES
from helpers.domain.cost.price_table import CapacityType, PriceTable, spot_price
from helpers.domain.estate.prices import CardPrice, Prices

ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PricePoint:
    """One card costs this from `from_at` on, until the next point of the same card and capacity type."""

    gpu: str
    capacity_type: CapacityType
    from_at: datetime
    usd_per_gpu_hour: Decimal
    source: str

    def __post_init__(self) -> None:
        require_utc(self.from_at, f"price of {self.gpu}, from_at")


@dataclass(frozen=True, slots=True)
class PricedSpan:
    """A span with one price. `point` None: there was none."""

    from_at: datetime
    to_at: datetime
    point: PricePoint | None


class PriceHistory:
    """Price points, looked up by card, capacity type and instant."""

    def __init__(self, points: Iterable[PricePoint]) -> None:
        """Of two points for one card, capacity type and instant the later given one holds."""
        last = {(point.gpu, point.capacity_type, point.from_at): point for point in points}
        self._points: dict[tuple[str, CapacityType], list[PricePoint]] = {}
        for key in sorted(last):
            self._points.setdefault(key[:2], []).append(last[key])

    @property
    def points(self) -> tuple[PricePoint, ...]:
        """All points, by card, capacity type and instant."""
        return tuple(point for points in self._points.values() for point in points)

    def at(self, gpu: str, capacity_type: CapacityType, at: datetime) -> PricePoint | None:
        """The point that holds at `at`; None where there is none: no price, which is not a price of zero."""
        points = self._points.get((gpu, capacity_type), [])
        index = bisect_right(points, at, key=lambda point: point.from_at)
        return points[index - 1] if index else None

    def spans(self, gpu: str, capacity_type: CapacityType, from_at: datetime, to_at: datetime) -> Iterator[PricedSpan]:
        """`from_at` to `to_at`, cut where the price changes."""
        points = self._points.get((gpu, capacity_type), [])
        edges = [from_at, *(point.from_at for point in points if from_at < point.from_at < to_at), to_at]
        for begin_at, end_at in pairwise(edges):
            yield PricedSpan(begin_at, end_at, self.at(gpu, capacity_type, begin_at))


def history_of(prices: Prices) -> PriceHistory:
    """The estate's prices: its table, then its own prices, each from its day on."""
    table = table_of(prices)
    points = [
        PricePoint(row.gpu, kind, ALWAYS, table.usd_per_gpu_hour(row.gpu, kind), f"{row.source}, {row.dated_on}")
        for row in table.rows
        for kind in CapacityType
    ]
    return PriceHistory([*points, *(point for card in prices.cards for point in _own(card, table))])


def table_of(prices: Prices) -> PriceTable:
    """The estate's table, with its own spot discount where it has one."""
    table = TABLES[prices.table]
    if prices.spot_discount_ratio is None:
        return table
    return replace(
        table, spot_discount_ratio=prices.spot_discount_ratio, spot_source="the estate's spot_discount_ratio"
    )


def _own(card: CardPrice, table: PriceTable) -> Iterator[PricePoint]:
    from_at = ALWAYS if card.from_day is None else datetime.combine(card.from_day, time(), UTC)
    spot = card.spot_usd_per_hour
    if spot is None:
        spot = spot_price(card.usd_per_hour, table.spot_discount_ratio)
    yield PricePoint(card.gpu, CapacityType.ON_DEMAND, from_at, card.usd_per_hour, card.source)
    yield PricePoint(card.gpu, CapacityType.SPOT, from_at, spot, card.source)
