"""What a job will cost before it runs, and how sure that is.

Durations are those of earlier runs of the same work, or nothing but the job's own limit; prices are a
range where the request leaves the card open, or where a spot job may end on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from helpers.domain.cost.held import CardMemory, WholeCards
from helpers.domain.cost.money import SECONDS_PER_HOUR, usd
from helpers.domain.cost.price_history import PriceHistory
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.watchdog.recommendation import Confidence, percentile

# Of fewer runs a p10 and a p90 are just the least and the greatest.
LEAST_RUNS_COUNT = 5
MANY_RUNS_COUNT = 20
LOW_RATIO, LIKELY_RATIO, HIGH_RATIO = 0.10, 0.50, 0.90


class Basis(StrEnum):
    """What an estimate rests on."""

    MEASURED = "measured"
    LIMIT = "max_duration"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PriceRange:
    """USD for one card and hour: where the job will most likely run, and between what it may end up."""

    low: Decimal
    likely: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Amounts in USD; None is unknown. With `Basis.LIMIT` only `high_usd` is known: it cannot cost more."""

    low_usd: Decimal | None
    likely_usd: Decimal | None
    high_usd: Decimal | None
    basis: Basis
    confidence: Confidence
    why: str


def price_range(history: PriceHistory, gpus: Sequence[str], at: datetime, *, preemptible: bool) -> PriceRange | None:
    """Over the cards that the request may mean. None where one of them has no price: then nothing is certain.

    A preemptible job begins on the cheapest spot card and may end on the dearest on-demand one.
    """
    kinds = (CapacityType.SPOT, CapacityType.ON_DEMAND) if preemptible else (CapacityType.ON_DEMAND,)
    points = [[history.at(gpu, kind, at) for gpu in gpus] for kind in kinds]
    prices = [[point.usd_per_gpu_hour for point in row if point is not None] for row in points]
    if not gpus or any(len(row) < len(gpus) for row in prices):
        return None
    every = [price for row in prices for price in row]
    return PriceRange(min(every), min(prices[0]), max(every))


def estimate(
    quantity: WholeCards | CardMemory,
    prices: PriceRange | None,
    durations_seconds: Sequence[int],
    limit_seconds: int | None,
    budget_limit_usd: Decimal | None = None,
) -> CostEstimate:
    """The job's cost.

    Args:
        quantity: what the job asks for, all its workers together.
        prices: None where a card has no price.
        durations_seconds: how long comparable finished runs held their cards.
        limit_seconds: the job's `max_duration`; it is stopped there.
        budget_limit_usd: the job's own limit; it is stopped there, too.
    """
    if prices is None:
        return CostEstimate(None, None, None, Basis.UNKNOWN, Confidence.NONE, "a card that it may run on has no price")
    runs = sorted(durations_seconds)
    if len(runs) < LEAST_RUNS_COUNT:
        return _by_limit(quantity, prices, len(runs), limit_seconds, budget_limit_usd)

    def cost_usd(ratio: float, price: Decimal) -> Decimal:
        seconds = percentile(runs, ratio) or 0
        return _capped(
            quantity, price, seconds if limit_seconds is None else min(seconds, limit_seconds), budget_limit_usd
        )

    return CostEstimate(
        cost_usd(LOW_RATIO, prices.low),
        cost_usd(LIKELY_RATIO, prices.likely),
        cost_usd(HIGH_RATIO, prices.high),
        Basis.MEASURED,
        Confidence.HIGH if len(runs) >= MANY_RUNS_COUNT else Confidence.MEDIUM,
        f"{len(runs)} measured runs: the middle one at the likely price; nine of ten cost less than the highest",
    )


def _by_limit(
    quantity: WholeCards | CardMemory,
    prices: PriceRange,
    runs_count: int,
    limit_seconds: int | None,
    budget_limit_usd: Decimal | None,
) -> CostEstimate:
    few = f"{runs_count} measured runs, {LEAST_RUNS_COUNT} are needed"
    if limit_seconds is not None:
        high_usd = _capped(quantity, prices.high, limit_seconds, budget_limit_usd)
        return CostEstimate(None, None, high_usd, Basis.LIMIT, Confidence.LOW, f"{few}: no more than its limits allow")
    if budget_limit_usd is not None:
        why = f"{few}, and it has no max_duration: no more than its budget_limit_usd"
        return CostEstimate(None, None, budget_limit_usd, Basis.LIMIT, Confidence.LOW, why)
    return CostEstimate(None, None, None, Basis.UNKNOWN, Confidence.NONE, f"{few}, and it has no limit")


def _capped(
    quantity: WholeCards | CardMemory, price: Decimal, seconds: int, budget_limit_usd: Decimal | None
) -> Decimal:
    amount = usd(Fraction(price) * quantity.cards * seconds / SECONDS_PER_HOUR)
    return amount if budget_limit_usd is None else min(amount, budget_limit_usd)
