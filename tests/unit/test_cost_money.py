"""One rounding rule, months in UTC, sums without loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.cost.money import Cost, Month, exact_hours, require_utc, summed, usd, usd_parts


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        ("0.00005", "0.0000"),  # half, and 0 is even
        ("0.00015", "0.0002"),  # half, and 2 is even
        ("0.00025", "0.0002"),
        ("0.000250000001", "0.0003"),  # more than half
        ("1/3", "0.3333"),
        ("2/3", "0.6667"),
        ("45.6", "45.6000"),
    ],
)
def test_an_amount_is_rounded_half_to_even_at_a_hundredth_of_a_cent(exact: str, rounded: str) -> None:
    assert str(usd(Fraction(exact))) == rounded


def test_three_thirds_are_rounded_together_to_the_whole() -> None:
    third = Fraction(1, 3)
    assert [str(part) for part in usd_parts([third, third, third])] == ["0.3334", "0.3333", "0.3333"]
    assert sum(usd(third) for _ in range(3)) == Decimal("0.9999")  # what rounding one by one would have said


@given(st.lists(st.fractions(0, 1000), max_size=12))
def test_rounded_parts_always_sum_to_the_rounded_sum_and_stay_within_a_unit(parts: list[Fraction]) -> None:
    rounded = usd_parts(parts)
    assert sum(rounded, Decimal(0)) == usd(sum(parts, Fraction(0)))
    assert all(abs(Fraction(one) - part) < Fraction(1, 10_000) for one, part in zip(rounded, parts, strict=True))


def test_a_span_is_exact_to_the_microsecond() -> None:
    assert exact_hours(timedelta(minutes=20)) == Fraction(1, 3)
    assert exact_hours(timedelta(microseconds=1)) == Fraction(1, 3_600_000_000)
    assert exact_hours(timedelta(days=36500)) == 876_000


def test_an_unpriced_part_makes_the_cost_unknown_and_leaves_what_is_known() -> None:
    cost = summed([Cost(Fraction(5)), Cost(unpriced_card_seconds=Fraction(60))])
    assert (cost.usd, cost.known_usd, cost.complete) == (None, Decimal("5.0000"), False)
    assert Cost(Fraction(5)).usd == Decimal("5.0000")
    assert summed([]).usd == Decimal("0.0000")


@pytest.mark.parametrize(
    ("at", "month", "to_at"),
    [
        (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), "2026-02", datetime(2026, 3, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        # One o'clock on the first in Berlin is still the month before in UTC.
        (datetime(2026, 3, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin")), "2026-02", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_month_is_a_calendar_month_in_utc(at: datetime, month: str, to_at: datetime) -> None:
    found = Month.of(at)
    assert (str(found), found.to_at) == (month, to_at)
    assert found.from_at <= at < found.to_at


@pytest.mark.parametrize("at", [datetime(2026, 2, 1), datetime(2026, 2, 1, tzinfo=ZoneInfo("Asia/Tokyo"))])  # noqa: DTZ001
def test_an_instant_that_is_not_utc_is_refused_with_place_and_repair(at: datetime) -> None:
    with pytest.raises(ValueError, match=r"from_at = 2026-02-01.*an aware instant in UTC; convert it"):
        require_utc(at, "from_at")
