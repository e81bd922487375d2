"""Advice about a project's work: from stretches that were held to spot, cards, reservations and a fixed cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from helpers.domain.cost.advice import Advice, Work, advise, busy_cards
from helpers.domain.cost.gpu_advice import WorkClass
from helpers.domain.cost.held import CardMemory, Segment, WholeCards
from helpers.domain.cost.price_data import AWS
from helpers.domain.cost.price_history import PriceHistory, history_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.estate.prices import Prices

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORY = history_of(Prices())


def work(
    from_hour: float,
    to_hour: float | None,
    cards: int = 1,
    *,
    gpu: str = "A100_80GB",
    spot: bool = False,
    preemptible: bool = False,
    need_mib: int | None = None,
    redone_hours: float = 0,
) -> Work:
    """Whole cards, held between two hours of the first day."""
    kind = CapacityType.SPOT if spot else CapacityType.ON_DEMAND
    end_at = None if to_hour is None else START + timedelta(hours=to_hour)
    segment = Segment("j", "p", None, gpu, WholeCards(cards), kind, START + timedelta(hours=from_hour), end_at)
    return Work(segment, gpu.partition("_")[0], preemptible, need_mib, timedelta(hours=redone_hours))


def advised(*works: Work, days: int = 1, history: PriceHistory = HISTORY, discount: str | None = None) -> Advice:
    ratio = None if discount is None else Decimal(discount)
    return advise(works, history, AWS, START, START + days * DAY, ratio)


def test_the_mix_is_of_what_may_be_preempted_and_counts_what_was_done_again() -> None:
    found = advised(
        work(0, 10, preemptible=True, spot=True, redone_hours=1), work(10, 20, preemptible=True), work(0, 20)
    )
    (card,) = found.cards
    assert [card.card_hours, card.spot_card_hours] == [40, 10]
    assert card.mix is not None
    assert card.mix.spot_card_hours == 20  # all that may be preempted; the target would allow 28
    assert card.mix.why[0].startswith("with 10.0 % of the work redone")
    # 20 x 1.029264375 x 1.1 + 20 x 3.43088125
    assert card.mix.cost_usd == Decimal("91.2614")
    assert card.mix.all_on_demand_usd == Decimal("137.2352")


def test_work_that_was_never_on_spot_says_that_nothing_is_measured() -> None:
    (card,) = advised(work(0, 1, preemptible=True)).cards
    assert card.mix is not None
    assert card.mix.why[0].startswith("work redone after preemptions is not measured")


def test_only_what_lies_in_the_span_counts() -> None:
    found = advised(work(-5, 1), work(23, None), work(30, 31))
    assert found.cards[0].card_hours == 2
    assert found.held.known == 2 * Fraction("3.43088125")


def test_the_fixed_cluster_is_as_large_as_the_peak_of_each_card() -> None:
    found = advised(work(0, 2, 3), work(1, 3, 2), work(0, 1, gpu="T4_16GB"))
    assert found.fixed_cards == {"A100_80GB": 5, "T4_16GB": 1}
    assert found.fixed is not None
    assert found.fixed.fixed_usd == Decimal("424.3298")  # 24 x (5 x 3.43088125 + 0.526)
    assert found.fixed.saved_ratio is not None
    assert 0.9 < found.fixed.saved_ratio < 1


def test_parts_of_cards_need_a_whole_one_in_a_fixed_cluster() -> None:
    segment = Segment("j", "p", None, "T4_16GB", CardMemory(3000, 16384), CapacityType.ON_DEMAND, START, START + DAY)
    assert advised(Work(segment, "T4", True, 3000)).fixed_cards == {"T4_16GB": 1}


def test_a_card_without_a_price_has_hours_and_no_advice_about_money() -> None:
    found = advised(work(0, 2, gpu="X1_8GB", need_mib=1000), discount="0.4")
    (card,) = found.cards
    assert [card.card_hours, card.mix, card.reserved] == [2, None, None]
    assert (found.held.complete, found.fixed) == (False, None)
    assert card.types[0].advice is not None  # the need is known, and cards with prices have room for it


def test_nothing_held_is_nothing_advised() -> None:
    found = advised()
    assert (found.cards, found.fixed_cards, found.fixed, found.held.known_usd) == ((), {}, None, Decimal(0))


def test_reserved_capacity_is_for_what_may_not_be_spot_from_the_first_work_on() -> None:
    held = [work(24 * day, 24 * day + 20, 2) for day in range(4, 14)]
    spot = [work(24 * 4, 24 * 14, 5, preemptible=True, spot=True)]
    (card,) = advised(*held, *spot, days=14, discount="0.4").cards
    assert card.reserved is not None
    assert (card.reserved.base_count, card.reserved.known_hours_count) == (2, 240)
    (without,) = advised(*held, days=14).cards
    assert without.reserved is None


def test_busy_cards_are_the_mean_of_each_hour_in_whole_cards() -> None:
    works = [work(0.5, 2, 4), work(1, 1.75, 1), work(2.9, None, 9)]
    assert busy_cards(works, START, START + timedelta(hours=4)) == [2, 4, 0, 9]
    assert busy_cards([], START, START + timedelta(minutes=59)) == []


def test_the_class_of_work_is_told_from_its_card_and_the_need_is_the_largest_that_was_asked_for() -> None:
    found = advised(
        work(0, 1, need_mib=30_000),
        work(0, 1, need_mib=20_000),
        work(0, 1, 8, gpu="H100_80GB", need_mib=70_000),
        work(0, 1, gpu="L40S_48GB", need_mib=10_000),
        work(0, 1, gpu="T4_16GB"),
    )
    types = {card.gpu: card.types[0] for card in found.cards}
    assert {
        gpu: (one.work, one.need_mib, one.advice.row.gpu if one.advice else None) for gpu, one in types.items()
    } == {
        "A100_80GB": (WorkClass.TRAINING, 30_000, "A100_40GB"),
        "H100_80GB": (WorkClass.LARGE_TRAINING, 70_000, "H100_80GB"),
        "L40S_48GB": (WorkClass.INFERENCE, 10_000, "T4_16GB"),
        "T4_16GB": (WorkClass.INFERENCE, None, None),
    }
