"""A shared card's bill: worked by hand on a card of 10000 MiB, 9000 advertised, at 10 USD an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.cost.held import CardMemory, Segment, charges, cost_of
from helpers.domain.cost.money import exact_hours, usd
from helpers.domain.cost.price_history import ALWAYS, PricedSpan, PriceHistory, PricePoint
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.cost.shared_card import HELD, Budgeted, Card, CardBill, Measured, Part, card_bill, divide

CARD = Card("GPU-1", 10_000, 9_000)
START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR_SECONDS = 3600
USED, UNUSED, UNMEASURED = Part.USED, Part.UNUSED, Part.UNMEASURED
ABOVE, IDLE, OVERHEAD = Part.ABOVE_BUDGET, Part.IDLE, Part.OVERHEAD
Divided = dict[tuple[Part, str | None], int | str]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def point(price: str, from_at: datetime = ALWAYS) -> PricePoint:
    return PricePoint("X_10GB", CapacityType.ON_DEMAND, from_at, Decimal(price), "by hand")


def spans(*points: PricePoint, to_seconds: float = HOUR_SECONDS) -> list[PricedSpan]:
    return list(PriceHistory(points).spans("X_10GB", CapacityType.ON_DEMAND, START, at(to_seconds)))


def lines(bill: CardBill) -> dict[tuple[str, str | None], str]:
    assert bill.usd is not None
    return {(line.part.value, line.tenant): str(usd) for line, usd in zip(bill.lines, bill.usd, strict=True)}


@pytest.mark.parametrize(
    ("why", "budgets", "used", "expected", "uncharged_mib", "overcommitted_mib"),
    [
        ("nobody is there", {}, {}, {(IDLE, None): 9000}, 0, 0),
        ("within it", {"a": 3000}, {"a": 1000}, {(USED, "a"): 1000, (UNUSED, "a"): 2000, (IDLE, None): 6000}, 0, 0),
        ("use is unknown", {"a": 3000}, {}, {(UNMEASURED, "a"): 3000, (IDLE, None): 6000}, 0, 0),
        ("measured, and nothing used", {"a": 3000}, {"a": 0}, {(UNUSED, "a"): 3000, (IDLE, None): 6000}, 0, 0),
        ("above it", {"a": 3000}, {"a": 5000}, {(USED, "a"): 3000, (ABOVE, "a"): 2000, (IDLE, None): 4000}, 0, 0),
        ("no budget at all", {}, {"z": 500}, {(ABOVE, "z"): 500, (IDLE, None): 8500}, 0, 0),
        (
            "above, into what others hold: 1000 idle MiB are charged, 500 lie in b's budget",
            {"a": 3000, "b": 5000},
            {"a": 4500, "b": 2000},
            {(USED, "a"): 3000, (ABOVE, "a"): 1000, (USED, "b"): 2000, (UNUSED, "b"): 3000},
            500,
            0,
        ),
        (
            "two above: 3000 and 1000 over, 2000 idle, so 1500 and 500",
            {"a": 3000, "b": 4000},
            {"a": 6000, "b": 5000},
            {(USED, "a"): 3000, (ABOVE, "a"): 1500, (USED, "b"): 4000, (ABOVE, "b"): 500},
            2000,
            0,
        ),
        (
            "budgets of 12000 on 9000 advertised: three quarters of each",
            {"a": 8000, "b": 4000},
            {"a": 7000},
            {(USED, "a"): 6000, (UNMEASURED, "b"): 3000},
            0,
            3000,
        ),
    ],
)  # fmt: skip
def test_the_cards_mib_at_one_instant(
    why: str,
    budgets: dict[str, int],
    used: dict[str, int],
    expected: Divided,
    uncharged_mib: int,
    overcommitted_mib: int,
) -> None:
    found = divide(CARD, budgets, used)
    assert {key: mib for key, mib in found.parts.items() if mib} == {**expected, (OVERHEAD, None): 1000}, why
    assert found.uncharged_overshoot_mib == uncharged_mib
    assert found.overcommitted_mib == overcommitted_mib


def test_an_hour_with_two_tenants_costs_ten_dollars_in_all() -> None:
    """a holds 3000 all the hour (3 USD) and was seen using 1000 of them in the first half (1000 x 1/2 = 0.50 used,
    1.00 unused, and 1.50 in the half that nobody measured); b holds 6000 in the last quarter (1.50).
    """
    budgeted = [Budgeted("a", 3000, at(-600), at(7200)), Budgeted("b", 6000, at(2700), at(3600))]
    bill = card_bill(CARD, spans(point("10")), budgeted, [Measured("a", 1000, at(0), at(1800))])
    assert lines(bill) == {
        ("used", "a"): "0.5000",
        ("unused", "a"): "1.0000",
        ("unmeasured", "a"): "1.5000",
        ("unmeasured", "b"): "1.5000",
        ("idle", None): "4.5000",  # 6000 x 3/4
        ("overhead", None): "1.0000",
    }
    assert bill.of(*HELD, tenant="a") == 3000 * HOUR_SECONDS
    assert bill.mib_seconds == 10_000 * HOUR_SECONDS


def test_two_pods_of_a_tenant_add_up() -> None:
    pods = [Budgeted("a", 1000, at(0), at(3600)), Budgeted("a", 1000, at(1800), at(3600))]
    bill = card_bill(CARD, spans(point("10")), pods, [])
    assert bill.of(UNMEASURED, tenant="a") == 1000 * 3600 + 1000 * 1800


def test_a_price_that_changes_in_the_hour_bills_each_half_at_its_own() -> None:
    prices = spans(point("10"), point("20", at(1800)))
    bill = card_bill(CARD, prices, [Budgeted("a", 9000, at(1800), at(3600))], [])
    assert lines(bill) == {("unmeasured", "a"): "9.0000", ("idle", None): "4.5000", ("overhead", None): "1.5000"}


def test_time_without_a_price_leaves_no_total_but_all_the_mib_seconds() -> None:
    bill = card_bill(CARD, spans(point("10", at(1800))), [Budgeted("a", 9000, at(0), at(3600))], [])
    assert bill.usd is None
    assert bill.unpriced_seconds == 1800
    assert usd(bill.cost) == Decimal("5.0000")
    assert bill.of(*Part) == bill.mib_seconds


def test_lines_that_round_badly_still_sum_to_the_cards_price() -> None:
    three = [Budgeted(name, 3, at(0), at(3600)) for name in "abc"]
    bill = card_bill(Card("GPU-2", 9, 9), spans(point("1")), three, [])
    assert lines(bill) == {
        ("unmeasured", "a"): "0.3334",
        ("unmeasured", "b"): "0.3333",
        ("unmeasured", "c"): "0.3333",
    }


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: Card("GPU-1", 10, 11), "card GPU-1, advertised_mib = 11: 1 to physical_mib, 10"),
        (lambda: Budgeted("a", -1, at(0), at(1)), "a: -1 MiB from .*: neither may be negative"),
        (lambda: Measured("a", 1, at(1), at(0)), "neither may be negative"),
        (lambda: Measured("a", 1, datetime(2026, 3, 1), at(0)), "an aware instant in UTC"),  # noqa: DTZ001
        (lambda: card_bill(CARD, [], [], []), "prices cover the billed time without gaps"),
        (lambda: card_bill(CARD, [*spans(point("1")), *spans(point("1"))], [], []), "without gaps"),
        (
            lambda: card_bill(
                CARD, spans(point("1")), [], [Measured("a", 1, at(0), at(9)), Measured("a", 2, at(8), at(9))]
            ),
            "a: two measurements for 2026-03-01 00:00:08",
        ),
    ],
)
def test_what_cannot_be_is_refused(bad: object, message: str) -> None:
    assert callable(bad)
    with pytest.raises(ValueError, match=message):
        bad()


seconds_of = st.integers(-1000, 5000)
stretch = st.tuples(st.sampled_from("abcd"), st.integers(0, 12_000), seconds_of, seconds_of)
many = settings(max_examples=150, deadline=None)


def budgets_of(drawn: list[tuple[str, int, int, int]]) -> list[Budgeted]:
    return [Budgeted(who, mib, at(min(a, b)), at(max(a, b))) for who, mib, a, b in drawn]


def measures_of(drawn: list[tuple[str, int, int, int]]) -> list[Measured]:
    """Those that overlap an earlier one of the same tenant are left out."""
    kept: list[Measured] = []
    for who, mib, a, b in drawn:
        one = Measured(who, mib, at(min(a, b)), at(max(a, b)))
        if all(one.tenant != k.tenant or one.to_at <= k.from_at or k.to_at <= one.from_at for k in kept):
            kept.append(one)
    return kept


@many
@given(
    st.integers(1, 10_000),
    st.lists(stretch, max_size=8),
    st.lists(stretch, max_size=8),
    st.lists(st.tuples(st.integers(0, 3600), st.decimals(0, 40, places=6)), max_size=3),
)
def test_the_parts_always_sum_to_the_card_and_its_price(
    advertised_mib: int,
    budgeted: list[tuple[str, int, int, int]],
    measured: list[tuple[str, int, int, int]],
    changes: list[tuple[int, Decimal]],
) -> None:
    prices = spans(point("7.77"), *(point(str(price), at(seconds)) for seconds, price in changes))
    held = budgets_of(budgeted)
    bill = card_bill(Card("GPU-1", 10_000, advertised_mib), prices, held, measures_of(measured))
    paid = sum(
        (Fraction(p.point.usd_per_gpu_hour) * exact_hours(p.to_at - p.from_at) for p in prices if p.point), Fraction(0)
    )
    assert bill.of(*Part) == bill.mib_seconds == 10_000 * HOUR_SECONDS
    assert bill.cost == paid
    assert bill.usd is not None
    assert sum(bill.usd, Decimal(0)) == usd(paid)
    assert all(line.mib_seconds > 0 and line.cost >= 0 for line in bill.lines)
    assert bill.of(OVERHEAD) == (10_000 - advertised_mib) * HOUR_SECONDS
    for tenant in "abcd":
        most = sum(_seconds_within(one) * one.mib for one in held if one.tenant == tenant)
        assert bill.of(*HELD, tenant=tenant) <= most


@many
@given(st.lists(stretch, max_size=6), st.lists(stretch, max_size=6))
def test_measuring_moves_nothing_between_what_is_held_and_the_rest_but_above_budget(
    budgeted: list[tuple[str, int, int, int]], measured: list[tuple[str, int, int, int]]
) -> None:
    held = budgets_of(budgeted)
    blind = card_bill(CARD, spans(point("10")), held, [])
    seeing = card_bill(CARD, spans(point("10")), held, measures_of(measured))
    for tenant in "abcd":
        assert seeing.of(*HELD, tenant=tenant) == blind.of(*HELD, tenant=tenant)
    assert seeing.of(IDLE, ABOVE) == blind.of(IDLE, ABOVE)
    assert blind.of(USED, UNUSED, ABOVE) == 0  # nothing measured: nothing is said to be used or unused


@many
@given(st.integers(1, 9000), seconds_of, seconds_of)
def test_a_jobs_own_cost_is_its_held_line_on_the_cards_bill(budget_mib: int, a: int, b: int) -> None:
    begin, end = at(min(a, b)), at(max(a, b))
    memory = CardMemory(budget_mib, CARD.physical_mib)
    segment = Segment("j", "p", "t", "X_10GB", memory, CapacityType.ON_DEMAND, begin, end)
    alone = cost_of(charges([segment], PriceHistory([point("10")]), START, at(HOUR_SECONDS)))
    bill = card_bill(CARD, spans(point("10")), [Budgeted("t", budget_mib, begin, end)], [])
    assert alone.known == sum((line.cost for line in bill.lines if line.tenant == "t"), Fraction(0))


def _seconds_within(one: Budgeted) -> Fraction:
    begin, end = max(one.from_at, START), min(one.to_at, at(HOUR_SECONDS))
    return max(Fraction(0), exact_hours(end - begin) * HOUR_SECONDS)
