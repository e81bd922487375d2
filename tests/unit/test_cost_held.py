"""What was held is charged, and nothing else: worked by hand with prices of 1 to 6 USD an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.cost.held import CardMemory, Segment, WholeCards, charges, cost_of, costs_by
from helpers.domain.cost.money import Cost, Month
from helpers.domain.cost.price_history import ALWAYS, PriceHistory, PricePoint
from helpers.domain.cost.price_table import CapacityType

ON_DEMAND, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
MARCH = Month(2026, 3)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def point(gpu: str, kind: CapacityType, price: str, from_at: datetime = ALWAYS) -> PricePoint:
    return PricePoint(gpu, kind, from_at, Decimal(price), "by hand")


HISTORY = PriceHistory(
    [
        point("BIG_80GB", ON_DEMAND, "3"),
        point("BIG_80GB", SPOT, "1"),
        point("BIG_80GB", ON_DEMAND, "6", NOON),  # dearer from noon on
        point("LATE_1GB", ON_DEMAND, "1", NOON),  # no price before noon
    ]
)


def segment(**fields: Any) -> Segment:
    given_fields = {
        "job": "j1",
        "project": "ml",
        "tenant": None,
        "gpu": "BIG_80GB",
        "quantity": WholeCards(1),
        "capacity_type": SPOT,
        "from_at": NOON,
        "to_at": NOON + hours(1),
    }
    return Segment(**{**given_fields, **fields})


@pytest.mark.parametrize(
    ("why", "fields", "usd"),
    [
        ("one card, one hour", {}, "1.0000"),
        ("four cards, half an hour", {"quantity": WholeCards(4), "to_at": NOON + hours(0.5)}, "2.0000"),
        ("a second is a 3600th", {"to_at": NOON + timedelta(seconds=1)}, "0.0003"),
        ("20 of 80 GiB are a quarter", {"quantity": CardMemory(20480, 81920)}, "0.2500"),
        ("a quarter each for three workers", {"quantity": CardMemory(20480, 81920, 3)}, "0.7500"),
        ("held for no time", {"to_at": NOON}, "0.0000"),
        ("dearer from noon on", {"capacity_type": ON_DEMAND, "from_at": NOON - hours(2)}, "12.0000"),  # 2x3 + 1x6
        (
            "ends as the price changes",
            {"capacity_type": ON_DEMAND, "from_at": NOON - hours(1), "to_at": NOON},
            "3.0000",
        ),
        ("still held: up to the month's end", {"from_at": MARCH.to_at - hours(3), "to_at": None}, "3.0000"),
        ("begun in February", {"from_at": MARCH.from_at - hours(5), "to_at": MARCH.from_at + hours(2)}, "2.0000"),
        ("another month", {"from_at": MARCH.to_at, "to_at": MARCH.to_at + hours(9)}, "0.0000"),
    ],
)
def test_a_segment_costs_price_times_cards_times_hours(why: str, fields: dict[str, Any], usd: str) -> None:
    found = charges([segment(**fields)], HISTORY, MARCH.from_at, MARCH.to_at)
    assert str(cost_of(found).usd) == usd, why


def test_a_card_without_a_price_makes_the_cost_unknown_and_says_for_how_long() -> None:
    held = segment(gpu="LATE_1GB", capacity_type=ON_DEMAND, quantity=WholeCards(2), from_at=NOON - hours(1))
    cost = cost_of(charges([held], HISTORY, MARCH.from_at, MARCH.to_at))
    assert cost == Cost(known=Fraction(2), unpriced_card_seconds=Fraction(7200))
    assert (cost.usd, cost.known_usd) == (None, Decimal("2.0000"))


def test_costs_by_job_project_and_tenant() -> None:
    """A job that was preempted after an hour of spot, and had two workers on demand after that."""
    held = [
        segment(from_at=NOON - hours(2), to_at=NOON - hours(1)),  # 1 USD
        segment(capacity_type=ON_DEMAND, quantity=WholeCards(2)),  # 12 USD
        segment(job="j2", project="web", tenant="chat", quantity=CardMemory(8192, 81920), to_at=NOON + hours(10)),  # 1
    ]
    found = list(charges(held, HISTORY, MARCH.from_at, MARCH.to_at))
    for key, expected in (
        (lambda one: one.job, {"j1": "13.0000", "j2": "1.0000"}),
        (lambda one: one.project, {"ml": "13.0000", "web": "1.0000"}),
        (lambda one: one.tenant, {"chat": "1.0000", None: "13.0000"}),
    ):
        assert {name: str(cost.usd) for name, cost in costs_by(found, key).items()} == expected
    assert list(costs_by(found, lambda one: one.tenant)) == ["chat", None]


@given(st.lists(st.integers(0, 31 * 86_400_000_000), min_size=2, max_size=8))
def test_months_and_cuts_change_no_sum(offsets: list[int]) -> None:
    """However a stretch is cut, into segments or by the window it is asked for, the exact sum is the same."""
    edges = sorted(MARCH.from_at - timedelta(days=15) + timedelta(microseconds=offset) for offset in offsets)
    whole = [segment(capacity_type=ON_DEMAND, from_at=edges[0], to_at=edges[-1])]
    cut = [segment(capacity_type=ON_DEMAND, from_at=begin, to_at=end) for begin, end in pairwise(edges)]
    february, april = Month(2026, 2), Month(2026, 4)
    expected = cost_of(charges(whole, HISTORY, february.from_at, april.to_at))
    assert cost_of(charges(cut, HISTORY, february.from_at, april.to_at)) == expected
    by_month = [cost_of(charges(whole, HISTORY, m.from_at, m.to_at)) for m in (february, MARCH, april)]
    assert by_month[0] + by_month[1] + by_month[2] == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"from_at": datetime(2026, 3, 10, 12)}, "segment of j1, from_at = .*: an aware instant in UTC"),  # noqa: DTZ001
        ({"to_at": NOON - hours(1)}, "segment of j1, to_at = .*: not before from_at"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segment(**fields)


def test_an_amount_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ValueError, match="count = 0: at least one card"):
        WholeCards(0)
    with pytest.raises(ValueError, match="count = 0: at least one card"):
        CardMemory(1, 8192, 0)
    with pytest.raises(ValueError, match="budget_mib = 9000: 1 to the card's physical_mib, 8192"):
        CardMemory(9000, 8192)
