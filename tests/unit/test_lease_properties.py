"""What holds for every book: nothing is promised twice, nobody starves, a second look changes nothing."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from helpers.domain.leases.book import Lease
from helpers.domain.leases.decision import Finish, Grant, after, decide
from helpers.domain.leases.facts import LaneUse
from helpers.domain.leases.room import unused_mib
from tests.fakes.lanes import EVENING, NOON
from tests.fakes.leases import LANES, book, card, decided, holder_rule, lease_settings, now, wish

NAMES = "abcdefgh"
SETTINGS = lease_settings(holder_rule(room_mib=6000))


@st.composite
def wishes(draw: st.DrawFn) -> list[Lease]:
    return [
        wish(
            name,
            draw(st.integers(1, 4000)),
            draw(st.sampled_from([rule.name for rule in LANES])),
            at=draw(st.integers(0, 50)),
            max_wait_seconds=draw(st.sampled_from([0.0, 60.0])),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]


FREE = st.one_of(st.none(), st.integers(0, 7500))
USES = st.lists(st.builds(LaneUse, st.just("chat"), st.just("ollama"), st.integers(1, 4000), st.none()), max_size=1)


@given(wishes(), FREE, USES, st.booleans())
def test_never_more_than_the_ledger_and_the_measured_free_memory(
    waiting: list[Lease], free_mib: int | None, uses: list[LaneUse], by_night: bool
) -> None:
    situation = now(card(free_mib), seconds=20, wall_at=EVENING if by_night else NOON, lane_uses=tuple(uses))
    held = decided(book(*waiting), situation, SETTINGS)[0].granted()
    jobs_mib = sum(use.need_mib for use in uses)
    assert sum(lease.mib for lease in held) <= min(6000, 7500 - max(1000, jobs_mib))
    assert not held or (
        free_mib is not None and unused_mib(held, situation.card("desk", 0)) + jobs_mib + 800 <= free_mib
    )
    assert by_night or not [lease for lease in held if lease.lane == "night"]


# Once found: `e` waited for its tenant's budget, and `g`, in a lane after it, was granted of that budget.
@example([wish("a", 3407, "ask"), wish("e", 2594, "ask", at=1), wish("g", 1, "day")], 4208, False)
@given(wishes(), FREE, st.booleans())
def test_a_second_look_changes_nothing(waiting: list[Lease], free_mib: int | None, by_night: bool) -> None:
    situation = now(card(free_mib), seconds=20, wall_at=EVENING if by_night else NOON)
    once, _ = decided(book(*waiting), situation, SETTINGS)
    assert decide(SETTINGS, LANES, once, situation) == ()


@given(wishes(), FREE)
def test_within_a_lane_nobody_is_granted_before_one_that_asked_earlier(
    waiting: list[Lease], free_mib: int | None
) -> None:
    once, _ = decided(book(*waiting), now(card(free_mib), seconds=55), SETTINGS)
    still = {lease.lane: lease for lease in reversed(once.waiting())}  # the first who waits, lane by lane
    for lease in once.granted():
        first = still.get(lease.lane)
        assert first is None or (lease.asked_at, lease.id) < (first.asked_at, first.id)


@given(wishes(), st.integers(1, 4000))
def test_however_many_small_ones_come_a_large_one_gets_its_turn(waiting: list[Lease], large_mib: int) -> None:
    """All hold for a while and give back; newcomers never stop coming. The large one waits for finitely many."""
    large = wish("large", large_mib, "day", at=51)
    leases = book(*(one.model_copy(update={"max_wait_seconds": 1e6}) for one in waiting), large)
    for turn in range(4 * len(NAMES)):
        seconds = 60 + turn
        signs = {key: (EVENING + timedelta(seconds=seconds), None) for key in leases.leases}
        situation = now(card(7000), seconds=seconds)
        leases = leases.seen(signs)
        newcomer = wish(f"new-{turn}", 100, "day", at=seconds, max_wait_seconds=1e6)
        leases = after(leases.with_([newcomer]), decide(SETTINGS, LANES, leases.with_([newcomer]), situation))
        if leases.leases["large"].state == "granted":
            return
        oldest = leases.granted()[0]
        leases = leases.with_([], [oldest.id])
    raise AssertionError("the large one was never granted")


@given(wishes(), FREE)
def test_every_decision_is_said_in_words(waiting: list[Lease], free_mib: int | None) -> None:
    for decision in decided(book(*waiting), now(card(free_mib), seconds=20), SETTINGS)[1]:
        assert len(decision.lease.reason) > 20
        assert isinstance(decision, Grant) or decision.lease.state != "granted"
        assert not isinstance(decision, Finish) or decision.lease.end is not None
