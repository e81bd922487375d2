"""Advice that explains itself: cards, the spot mix, reservations, the fixed cluster, idle time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.cost.comparison import against_fixed, idle_costs, peak_cards
from helpers.domain.cost.gpu_advice import PREFERENCE, GpuAdvice, WorkClass, advise_gpu
from helpers.domain.cost.held import CardMemory, Segment, WholeCards, charges
from helpers.domain.cost.money import Cost
from helpers.domain.cost.price_data import AWS
from helpers.domain.cost.price_history import ALWAYS, PriceHistory, PricePoint
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.cost.reserved import LEAST_HOURS_COUNT, advise_reserved
from helpers.domain.cost.spot_mix import advise_mix

ON_DEMAND, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
START = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(days=7)


def advised(need_mib: int, work: WorkClass) -> GpuAdvice:
    found = advise_gpu(AWS, need_mib, work)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("need_mib", "work", "gpu", "count", "usd", "shared_usd", "cheaper"),
    [
        (14_000, WorkClass.INFERENCE, "T4_16GB", 1, "0.5260", None, None),
        (3_000, WorkClass.INFERENCE, "T4_16GB", 1, "0.5260", "0.1034", None),  # 0.526 x 3000 / 15258
        (20_000, WorkClass.INFERENCE, "L4_24GB", 1, "0.8048", None, None),
        (40_000, WorkClass.INFERENCE, "L40S_48GB", 1, "1.8610", None, None),
        (30_000, WorkClass.TRAINING, "A100_40GB", 1, "2.7447", None, "L40S_48GB"),
        (60_000, WorkClass.TRAINING, "A100_80GB", 1, "3.4309", None, None),
        (60_000, WorkClass.LARGE_TRAINING, "H100_80GB", 1, "6.8800", None, None),
        (200_000, WorkClass.TRAINING, "A100_80GB", 3, "10.2926", None, None),  # 200000 / 76293, rounded up
    ],
)
def test_the_card_for_the_work(
    need_mib: int, work: WorkClass, gpu: str, count: int, usd: str, shared_usd: str | None, cheaper: str | None
) -> None:
    found = advised(need_mib, work)
    assert (found.row.gpu, found.gpus_count, str(found.usd_per_hour)) == (gpu, count, usd)
    assert found.shared_usd_per_hour == (None if shared_usd is None else Decimal(shared_usd))
    assert (found.cheaper.gpu if found.cheaper else None) == cheaper


def test_every_card_that_was_passed_over_has_its_reason() -> None:
    assert advised(40_000, WorkClass.INFERENCE).why == (
        "T4_16GB: 15258 MiB, 24742 too few",
        "L4_24GB: 22888 MiB, 17112 too few",
        "A10G_24GB: 22888 MiB, 17112 too few",
        "L40S_48GB: first for inference with room for 40000 MiB (45776 MiB)",
    )
    assert advised(200_000, WorkClass.TRAINING).why[-1].startswith("3 x A100_80GB: no card has room for 200000 MiB")


def test_what_was_measured_of_a_card_outranks_its_name() -> None:
    need_mib = 15_300
    assert advised(need_mib, WorkClass.INFERENCE).row.gpu == "L4_24GB"
    measured = advise_gpu(AWS, need_mib, WorkClass.INFERENCE, {"T4_16GB": 15_360})
    assert measured is not None
    assert measured.row.gpu == "T4_16GB"


def test_advice_needs_a_need_and_a_card_of_the_class() -> None:
    with pytest.raises(ValueError, match="need_mib = 0: at least 1"):
        advise_gpu(AWS, 0, WorkClass.TRAINING)
    only_t4 = replace(AWS, rows=(AWS.row("T4_16GB"),))
    assert advise_gpu(only_t4, 1000, WorkClass.TRAINING) is None
    assert set(PREFERENCE) == set(WorkClass)


@pytest.mark.parametrize(
    ("why", "may", "may_not", "spot_usd", "redone", "spot_hours", "cost", "said"),
    [
        ("the target of 70 % decides", 90, 10, "3", None, 70, "510.0000", "the target decides"),  # 70 x 3 + 30 x 10
        ("only half may", 50, 50, "3", None, 50, "650.0000", "the work that may be preempted decides"),
        ("nothing may", 0, 100, "3", None, 0, "1000.0000", "the work that may be preempted decides"),
        ("a fifth is run again: 3.60", 90, 10, "3", Fraction(1, 5), 70, "552.0000", "20.0 % of the work redone"),
        ("so much again that it is dearer", 90, 10, "6", Fraction(1), 0, "1000.0000", "no spot: it costs 12"),
        ("no work", 0, 0, "3", None, 0, "0.0000", "not measured"),
    ],
)
def test_the_mix_of_100_hours_at_10_dollars(
    why: str, may: int, may_not: int, spot_usd: str, redone: Fraction | None, spot_hours: int, cost: str, said: str
) -> None:
    found = advise_mix(Fraction(may), Fraction(may_not), Decimal(10), Decimal(spot_usd), redone)
    assert found.spot_card_hours == spot_hours, why
    assert str(found.cost_usd) == cost
    assert found.all_on_demand_usd == 10 * (may + may_not)
    assert found.spot_ratio == (Fraction(spot_hours, may + may_not) if may + may_not else None)
    assert said in " ".join(found.why)


# A week: 2 cards always, a third in 100 of 168 hours, a fourth in 30.
WEEK_OF_USE = [4] * 30 + [3] * 70 + [2] * 68


@pytest.mark.parametrize(
    ("discount", "base", "saved"),
    [
        # Each reserved card costs 168 x 10 x 0.6 = 1008; the first two save 672 each; the third's 1000 do not pay.
        ("0.4", 2, "1344.0000"),
        # 168 x 10 x 0.5 = 840: the third saves 160 more.
        ("0.5", 3, "1840.0000"),
        ("0", 0, "0.0000"),
        ("0.9", 4, "3988.0000"),  # 168 each: 1512 + 1512 + 832 + 132
    ],
)
def test_a_card_is_reserved_where_it_is_busy_longer_than_it_costs(discount: str, base: int, saved: str) -> None:
    found = advise_reserved(WEEK_OF_USE, Decimal(10), Decimal(discount))
    assert found.base_count == base
    assert sum(step.pays for step in found.steps) == base
    assert str(found.saved_usd) == saved


def test_a_day_is_no_steady_part_and_unmeasured_hours_are_left_out() -> None:
    day = advise_reserved([5] * 24, Decimal(10), Decimal("0.4"))
    assert (day.base_count, day.saved_usd) == (None, None)
    assert "24 known hours; a week, 168" in day.why
    holes = advise_reserved([*WEEK_OF_USE, *[None] * 100], Decimal(10), Decimal("0.4"))
    assert (holes.base_count, holes.known_hours_count, holes.unknown_hours_count) == (2, 168, 100)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=LEAST_HOURS_COUNT, max_size=LEAST_HOURS_COUNT + 24),
    st.decimals(0, "0.99", places=2),
)
def test_no_other_number_of_reserved_cards_costs_less(busy: list[int], discount: Decimal) -> None:
    def cost(reserved_count: int) -> Decimal:
        return sum(
            (10 * (reserved_count * (1 - discount) + max(0, count - reserved_count)) for count in busy), Decimal(0)
        )

    found = advise_reserved(busy, Decimal(10), discount)
    assert found.base_count is not None
    assert cost(found.base_count) == min(cost(count) for count in range(8))
    assert found.saved_usd == cost(0) - cost(found.base_count)


@pytest.mark.parametrize(
    ("paid", "ratio", "as_wanted"),
    [
        (Cost(Fraction(1008)), Fraction(2, 5), True),  # 1680 fixed: 10 cards x 168 h x 1 USD
        (Cost(Fraction(1009)), Fraction(671, 1680), False),
        (Cost(Fraction(1700)), Fraction(-20, 1680), False),
        (Cost(Fraction(5), Fraction(60)), None, None),
    ],
)
def test_a_week_against_ten_fixed_cards(paid: Cost, ratio: Fraction | None, as_wanted: bool | None) -> None:
    found = against_fixed(paid, [(10, Decimal(1))], WEEK)
    assert found.fixed_usd == Decimal(1680)
    assert (found.saved_ratio, found.as_wanted) == (ratio, as_wanted)
    assert (found.paid_usd is None) == (ratio is None)


@pytest.mark.parametrize("fixed", [[], [(0, Decimal(1))], [(1, Decimal(0))]])
def test_a_fixed_cluster_without_cost_is_no_comparison(fixed: list[tuple[int, Decimal]]) -> None:
    with pytest.raises(ValueError, match="fixed: at least one card"):
        against_fixed(Cost(), fixed, WEEK)


def held(
    from_hour: float, to_hour: float, quantity: WholeCards | CardMemory, kind: CapacityType = ON_DEMAND
) -> Segment:
    begin, end = START + timedelta(hours=from_hour), START + timedelta(hours=to_hour)
    return Segment("j", "p", None, "X_10GB", quantity, kind, begin, end)


@pytest.mark.parametrize(
    ("segments", "peak"),
    [
        ([(0, 1, 2), (1, 2, 3)], 3),  # one ends as the other begins
        ([(0, 2, 2), (1, 3, 3)], 5),
        ([(0, 2, 1), (0.5, 0.75, 1), (1, 2, 1)], 2),
        ([(1, 1, 9)], None),  # held for no time
    ],
)
def test_the_peak_is_the_most_at_one_instant(segments: list[tuple[float, float, int]], peak: int | None) -> None:
    found = peak_cards(held(begin, end, WholeCards(count)) for begin, end, count in segments)
    assert found == ({} if peak is None else {"X_10GB": peak})


def test_a_peak_of_what_has_not_ended_is_refused() -> None:
    with pytest.raises(ValueError, match="segment of j has no end"):
        peak_cards([replace(held(0, 1, WholeCards(1)), to_at=None)])


HISTORY = PriceHistory(
    PricePoint("X_10GB", kind, ALWAYS, Decimal(price), "by hand") for kind, price in ((ON_DEMAND, "4"), (SPOT, "1"))
)


@pytest.mark.parametrize(
    ("why", "nodes", "jobs", "idle", "ratio"),
    [
        ("8 cards for 2 h, 6 held for 1", [held(0, 2, WholeCards(8))], [held(0, 1, WholeCards(6))], "40", "5/8"),
        ("a quarter of one card held", [held(0, 1, WholeCards(1))], [held(0, 1, CardMemory(1, 4))], "3", "3/4"),
        ("nobody", [held(0, 1, WholeCards(1))], [], "4", "1"),
        ("a node is missing", [held(0, 1, WholeCards(1))], [held(0, 2, WholeCards(1))], None, None),
    ],
)
def test_idle_is_what_was_paid_for_and_not_held(
    why: str, nodes: list[Segment], jobs: list[Segment], idle: str | None, ratio: str | None
) -> None:
    end = START + WEEK
    found = idle_costs(charges(nodes, HISTORY, START, end), charges(jobs, HISTORY, START, end))
    one = found["X_10GB", ON_DEMAND]
    assert (one.idle_usd, one.idle_ratio) == (Decimal(idle) if idle else None, Fraction(ratio) if ratio else None), why
    assert one.why


def test_idle_time_is_kept_apart_by_capacity_type_and_needs_a_price() -> None:
    nodes = [held(0, 1, WholeCards(1)), held(0, 3, WholeCards(1), SPOT)]
    found = idle_costs(charges(nodes, HISTORY, START, START + WEEK), [])
    assert {key[1]: one.idle_usd for key, one in found.items()} == {ON_DEMAND: Decimal(4), SPOT: Decimal(3)}
    unpriced = [replace(nodes[0], gpu="Y_1GB")]
    (one,) = idle_costs(charges(unpriced, HISTORY, START, START + WEEK), []).values()
    assert (one.paid_usd, one.idle_usd) == (None, None)
