"""Seating pods on cards: greedy where that works, exact where it does not, never over a card."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.seating import Pod, Room, Seating, Slot, seat


def cards(*advertised_mib: int, node_index: int = 0, model: str = "A") -> list[Slot]:
    return [Slot(node_index, gpu_index, model, mib) for gpu_index, mib in enumerate(advertised_mib)]


def pods(*budgets_mib: int, shares: int = 0) -> list[Pod]:
    return [Pod(f"t{index}", 0, budget, shares) for index, budget in enumerate(budgets_mib)]


def budgets_by_card(seating: Seating) -> dict[tuple[int, int], list[int]]:
    seated: dict[tuple[int, int], list[int]] = {}
    for pod, slot in seating.seats.items():
        seated.setdefault((slot.node_index, slot.gpu_index), []).append(pod.budget_mib)
    return {card: sorted(budgets) for card, budgets in sorted(seated.items())}


def assert_within_limits(seating: Seating, shares_per_node: int) -> None:
    used_mib: Counter[Slot] = Counter()
    used_shares: Counter[int] = Counter()
    for pod, slot in seating.seats.items():
        used_mib[slot] += pod.budget_mib
        used_shares[slot.node_index] += pod.shares
        assert pod.gpu_model in (None, slot.model)
        assert pod.node_index in (None, slot.node_index)
    assert all(mib <= slot.advertised_mib for slot, mib in used_mib.items())
    assert all(shares <= shares_per_node for shares in used_shares.values())


def test_three_pods_of_16000_do_not_fit_two_cards_of_24000() -> None:
    seating = seat(pods(16000, 16000, 16000), cards(24000, 24000), 8)
    assert (seating.complete, seating.proved, seating.seats) == (False, True, {})


def test_the_fullest_card_that_fits_is_taken() -> None:
    seating = seat(pods(16000, 16000, 8000), cards(24000, 24000), 8)
    assert budgets_by_card(seating) == {(0, 0): [8000, 16000], (0, 1): [16000]}


def test_where_greedy_fails_the_search_finds_the_seating() -> None:
    # Best fit makes 7 + 5 and 5 + 4 + 4, which leaves no place for the third 4.
    tricky, slots = pods(7, 5, 5, 4, 4, 4, 1), cards(15, 15)
    assert not seat(tricky, slots, 0, max_steps=0).complete
    assert budgets_by_card(seat(tricky, slots, 0)) == {(0, 0): [4, 4, 7], (0, 1): [1, 4, 5, 5]}


def test_a_card_of_the_wrong_model_is_no_place() -> None:
    slots = [Slot(0, 0, "A", 100), Slot(0, 1, "B", 10)]
    assert seat([Pod("t", 0, 10, 1, gpu_model="B")], slots, 1).seats == {Pod("t", 0, 10, 1, "B"): slots[1]}
    assert not seat([Pod("t", 0, 11, 1, gpu_model="B")], slots, 1).complete


def test_shares_are_counted_a_node() -> None:
    slots = [*cards(100, node_index=0), *cards(100, node_index=1)]
    assert seat(pods(1, 1, shares=3), slots, 4).complete
    assert not seat([*pods(1, 1, shares=3), Pod("x", 0, 1, 2)], slots, 4).complete


def test_a_pinned_pod_stays_on_its_node() -> None:
    slots = [*cards(100, node_index=0), *cards(100, node_index=1)]
    daemons = [Pod("d", index, 60, 1, node_index=index) for index in range(2)]
    seating = seat([*daemons, Pod("t", 0, 40, 1)], slots, 2)
    assert [seating.seats[pod].node_index for pod in daemons] == [0, 1]
    assert not seat([*daemons, Pod("d", 2, 1, 1, node_index=2)], slots, 9).complete


def test_no_pods_fit_everywhere_and_some_fit_nowhere() -> None:
    assert seat([], [], 0).complete
    assert not seat(pods(1), [], 0).complete


def test_a_search_that_is_cut_short_says_so() -> None:
    # Budgets without a common rhythm, so that nothing is pruned as the same state.
    awkward = pods(*(3000 + 37 * index for index in range(24)))
    seating = seat(awkward, cards(*[sum(pod.budget_mib for pod in awkward) // 6 + 1] * 6), 0, max_steps=50)
    assert not seating.complete
    assert not seating.proved


def test_a_thousand_pods_on_two_hundred_nodes_are_seated() -> None:
    slots = [Slot(node, gpu, "A", 24000) for node in range(200) for gpu in range(8)]
    many = [Pod(f"t{index}", 0, 500 + 23 * (index % 1000), 1) for index in range(1000)]
    seating = seat(many, slots, 64)
    assert seating.complete
    assert len(seating.seats) == len(many)
    assert_within_limits(seating, 64)


def test_room_moves_seated_pods_where_that_makes_place_and_changes_nothing() -> None:
    slots = cards(10, 10)
    seating = seat(pods(6, 4, 3, 3), slots, 0)
    room = Room(seating, slots, 0)
    assert room.fits([Pod("more", 0, 4, 0)])
    assert not room.fits([Pod("more", 0, 5, 0)])
    assert room.fits([Pod("more", 0, 4, 0)])
    assert seating.seats == seat(pods(6, 4, 3, 3), slots, 0).seats


SMALL_POD = st.builds(
    Pod,
    st.just("t"),
    st.just(0),
    st.integers(1, 9),
    st.integers(0, 2),
    st.sampled_from([None, None, None, "A", "B"]),
    st.sampled_from([None, None, 0, 1]),
)
SMALL_PODS = st.lists(SMALL_POD, max_size=6).map(
    lambda listed: [replace(pod, tenant=f"t{index}") for index, pod in enumerate(listed)]
)
SMALL_NODE = st.lists(st.tuples(st.integers(1, 14), st.sampled_from("AAB")), min_size=1, max_size=2)
SMALL_SLOTS = st.lists(SMALL_NODE, min_size=1, max_size=2).map(
    lambda nodes: [
        Slot(node_index, gpu_index, model, mib)
        for node_index, cards_of_node in enumerate(nodes)
        for gpu_index, (mib, model) in enumerate(cards_of_node)
    ]
)


def brute_force(wanted: Sequence[Pod], slots: Sequence[Slot], shares_per_node: int) -> bool:
    for choice in itertools.product(slots, repeat=len(wanted)):
        mib: Counter[Slot] = Counter()
        shares: Counter[int] = Counter()
        for pod, slot in zip(wanted, choice, strict=True):
            mib[slot] += pod.budget_mib
            shares[slot.node_index] += pod.shares
        allowed = all(
            pod.gpu_model in (None, slot.model) and pod.node_index in (None, slot.node_index)
            for pod, slot in zip(wanted, choice, strict=True)
        )
        fits = allowed and all(used <= slot.advertised_mib for slot, used in mib.items())
        if fits and all(used <= shares_per_node for used in shares.values()):
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(SMALL_PODS, SMALL_SLOTS, st.integers(0, 8))
def test_the_search_agrees_with_trying_everything(wanted: list[Pod], slots: list[Slot], shares_per_node: int) -> None:
    seating = seat(wanted, slots, shares_per_node)
    assert seating.proved
    assert seating.complete == brute_force(wanted, slots, shares_per_node)


@settings(max_examples=60, deadline=None)
@given(SMALL_PODS, SMALL_SLOTS, st.integers(0, 8), st.randoms(use_true_random=False))
def test_a_seating_seats_everybody_within_every_limit_in_any_order(
    wanted: list[Pod], slots: list[Slot], shares_per_node: int, chance: random.Random
) -> None:
    seating = seat(wanted, slots, shares_per_node)
    assert len(seating.seats) == (len(wanted) if seating.complete else 0)
    assert_within_limits(seating, shares_per_node)
    shuffled_pods, shuffled_slots = list(wanted), list(slots)
    chance.shuffle(shuffled_pods)
    chance.shuffle(shuffled_slots)
    assert seat(shuffled_pods, shuffled_slots, shares_per_node) == seating


@settings(max_examples=60, deadline=None)
@given(SMALL_PODS, SMALL_SLOTS, st.lists(st.integers(1, 9), min_size=1, max_size=2))
def test_room_agrees_with_trying_everything(wanted: list[Pod], slots: list[Slot], more_mib: list[int]) -> None:
    seating = seat(wanted, slots, 99)
    more = [Pod("more", index, mib, 1) for index, mib in enumerate(more_mib)]
    if seating.complete:
        assert Room(seating, slots, 99).fits(more) == brute_force([*wanted, *more], slots, 99)


@pytest.mark.parametrize("budget_mib", [14000, 14001])
def test_a_card_is_used_to_its_last_mib_and_not_beyond(budget_mib: int) -> None:
    assert seat(pods(budget_mib), cards(14000), 1).complete == (budget_mib == 14000)
