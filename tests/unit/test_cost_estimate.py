"""A job's cost before it runs: prices of 1 (spot) and 4 USD (on demand), hours that can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from helpers.domain.cost.estimate import Basis, PriceRange, estimate, price_range
from helpers.domain.cost.held import CardMemory, WholeCards
from helpers.domain.cost.price_data import AWS
from helpers.domain.cost.price_history import history_of
from helpers.domain.estate.prices import Prices
from helpers.domain.watchdog.recommendation import Confidence

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 3600
ONE_OR_FOUR = PriceRange(Decimal(1), Decimal(1), Decimal(4))
# Ten runs of 1 to 10 hours: nearest-rank p10 is 1 h, p50 is 5 h, p90 is 9 h.
TEN_RUNS = [hours * HOUR for hours in (10, 2, 3, 1, 5, 4, 7, 6, 9, 8)]


@pytest.mark.parametrize(
    ("why", "quantity", "runs", "limit_hours", "budget", "low", "likely", "high", "basis", "confidence"),
    [
        ("measured", WholeCards(1), TEN_RUNS, 24, None, "1", "5", "36", "measured", "medium"),  # 9 h x 4
        ("measured twice as often", WholeCards(1), TEN_RUNS * 2, 24, None, "1", "5", "36", "measured", "high"),
        ("stopped at its limit", WholeCards(2), TEN_RUNS, 4, None, "2", "8", "32", "measured", "medium"),  # 2 x 4 h x 4
        ("stopped at its budget", WholeCards(1), TEN_RUNS, None, "20", "1", "5", "20", "measured", "medium"),
        ("a quarter card", CardMemory(4096, 16384), TEN_RUNS, None, None, "0.25", "1.25", "9", "measured", "medium"),
        # Rounded once, for all workers: an hour of 1 MiB alone would be 0.0001 or nothing.
        ("16384 x 1 MiB", CardMemory(1, 16384, 16384), TEN_RUNS, None, None, "1", "5", "36", "measured", "medium"),
        ("four runs are too few", WholeCards(1), TEN_RUNS[:4], 24, None, None, None, "96", "max_duration", "low"),
        ("never run, 100 USD at most", WholeCards(4), [], 24, "100", None, None, "100", "max_duration", "low"),
        ("never run, only a budget", WholeCards(4), [], None, "100", None, None, "100", "max_duration", "low"),
        ("never run, no limit", WholeCards(4), [], None, None, None, None, None, "unknown", "none"),
    ],
)  # fmt: skip
def test_an_estimate_says_what_it_rests_on(
    why: str, quantity: WholeCards | CardMemory, runs: list[int], limit_hours: int | None, budget: str | None,
    low: str | None, likely: str | None, high: str | None, basis: str, confidence: str,
) -> None:  # fmt: skip
    limit_seconds = None if limit_hours is None else limit_hours * HOUR
    found = estimate(quantity, ONE_OR_FOUR, runs, limit_seconds, Decimal(budget) if budget else None)
    expected = tuple(None if one is None else Decimal(one) for one in (low, likely, high))
    assert (found.low_usd, found.likely_usd, found.high_usd) == expected, why
    assert (found.basis, found.confidence) == (Basis(basis), Confidence(confidence))
    assert found.why


def test_a_card_without_a_price_leaves_nothing_to_say() -> None:
    found = estimate(WholeCards(1), None, TEN_RUNS, 24 * HOUR)
    assert (found.low_usd, found.likely_usd, found.high_usd, found.confidence) == (None, None, None, Confidence.NONE)


@pytest.mark.parametrize(
    ("gpus", "preemptible", "expected"),
    [
        (["T4_16GB"], False, ("0.526", "0.526", "0.526")),
        (["T4_16GB"], True, ("0.1578", "0.1578", "0.526")),  # may end on demand
        (["A100_40GB", "A100_80GB"], False, ("2.74470525", "2.74470525", "3.43088125")),
        (["T4_16GB", "B200_192GB"], False, None),
        ([], False, None),
    ],
)
def test_the_price_is_a_range_where_the_request_leaves_the_card_open(
    gpus: list[str], preemptible: bool, expected: tuple[str, str, str] | None
) -> None:
    found = price_range(history_of(Prices()), gpus, NOW, preemptible=preemptible)
    assert found == (None if expected is None else PriceRange(*map(Decimal, expected)))


def test_the_references_request_of_four_a100_for_a_day() -> None:
    """Four 80 GB cards for at most 24 hours: 4 x 24 x 3.43088125 = 329.3646, but its budget of 100 stops it."""
    gpus = [row.gpu for row in AWS.of_type("A100", 80)]
    prices = price_range(history_of(Prices()), gpus, NOW, preemptible=True)
    without_budget = estimate(WholeCards(4), prices, [], 24 * HOUR)
    assert without_budget.high_usd == Decimal("329.3646")
    assert estimate(WholeCards(4), prices, [], 24 * HOUR, Decimal("100")).high_usd == Decimal(100)


def test_spot_that_is_dearer_is_still_where_a_preemptible_job_begins() -> None:
    card = {"gpu": "T4_16GB", "usd_per_hour": 1, "spot_usd_per_hour": 2, "source": "by hand"}
    history = history_of(Prices.model_validate({"cards": [card]}))
    assert price_range(history, ["T4_16GB"], NOW, preemptible=True) == PriceRange(Decimal(1), Decimal(2), Decimal(2))
