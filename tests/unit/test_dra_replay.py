"""The scheduler's way with claims, against the ledger's search, over random sets of tenants."""

from __future__ import annotations

from helpers.domain.dra.replay import Ask, CardRoom, replay
from helpers.domain.seating import seat
from tests.fixtures.random_tenants import tenant_set

SETS = 1000
TWO_CARDS = (CardRoom("gpu-0", 24000), CardRoom("gpu-1", 24000))


def test_a_pod_takes_the_first_card_that_has_room() -> None:
    asks = [Ask("a", 16000), Ask("b", 16000), Ask("c", 8000), Ask("d", 8001)]
    assert replay(TWO_CARDS, asks) == {"a": "gpu-0", "b": "gpu-1", "c": "gpu-0", "d": None}


def test_a_node_number_would_let_three_in_where_two_fit() -> None:
    placed = replay(TWO_CARDS, [Ask(name, 16000) for name in "abc"])
    assert list(placed.values()) == ["gpu-0", "gpu-1", None]


def test_the_order_can_leave_one_pending_that_a_seating_has_room_for() -> None:
    small_first = [Ask("a", 8000), Ask("b", 8000), Ask("c", 16000), Ask("d", 16000)]
    assert replay(TWO_CARDS, small_first)["d"] is None
    assert None not in replay(TWO_CARDS, small_first[::-1]).values()


def test_no_card_of_a_thousand_random_sets_is_over_committed_and_what_cannot_be_seated_leaves_one_pending() -> None:
    impossible, in_order = 0, 0
    for seed in range(SETS):
        one = tenant_set(seed)
        placed = replay(one.cards, one.asks)
        for card in one.cards:
            taken = [ask for ask in one.asks if placed[ask.name] == card.name]
            assert sum(ask.budget_mib for ask in taken) <= card.left_mib, seed
            assert all(ask.model in (None, card.model) for ask in taken), seed
        seating = seat(one.pods(), one.slots(), 0)
        if not seating.complete and seating.proved:
            impossible += 1
            assert None in placed.values(), seed
        if None not in placed.values():
            in_order += 1
            assert seating.complete, seed
    # Both kinds are there in numbers, or this would show nothing.
    assert impossible > SETS / 5
    assert in_order > SETS / 5
