"""Who gets a lease, who loses it, who waits, and what they are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from helpers.domain.leases.book import Book, End, Lease
from helpers.domain.leases.decision import Finish, Forget, Grant, Wait
from helpers.domain.leases.facts import LaneUse
from helpers.domain.leases.overdue import Overdue, overdue
from helpers.domain.leases.settings import CardRule
from tests.fakes.lanes import EVENING, NOON
from tests.fakes.leases import book, card, decided, holder_rule, lane_rule, lease_settings, node_rule, now, wish


def one(leases: Book, *args: object, **kwargs: object) -> Lease:
    """What became of the lease `a`."""
    found = decided(leases, *args, **kwargs)[0].get("a")  # type: ignore[arg-type]
    assert found is not None
    return found


def granted(lease_id: str = "a", mib: int = 2000, **fields: Any) -> Lease:
    block: dict[str, Any] = {"state": "granted", "node": "desk", "gpu_index": 0, "base_mib": 0, "granted_at": EVENING}
    return wish(lease_id, mib, **(block | fields))


def test_what_fits_the_ledger_and_the_measured_free_memory_is_granted() -> None:
    lease = one(book(wish()), now(card(7000)))
    assert (lease.state, lease.node, lease.gpu_index) == ("granted", "desk", 0)
    assert lease.reason == "2000 MiB fit on desk/0, and 4200 MiB are left"


def test_what_the_ledger_does_not_allow_waits_however_much_is_free() -> None:
    lease = one(
        book(granted("x", 5000), wish()), now(card(7000, trainer_x=5000)), lease_settings(holder_rule(room_mib=9000))
    )
    assert lease.state == "waiting"
    assert lease.reason == (
        "desk/0 has 1500 of 7500 MiB that are not promised or leased to others; 2000 MiB do not fit"
    )


def test_what_is_not_measured_free_waits_however_empty_the_ledger_is() -> None:
    lease = one(book(wish()), now(card(2500)))
    assert lease.reason == (
        "desk/0 has 2500 MiB measured free; less the floor of 800 MiB 1700 MiB are left, and 2000 MiB do not fit"
    )


def test_unknown_free_memory_is_not_free() -> None:
    lease = one(book(wish()), now(card(None)))
    assert lease.state == "waiting"
    assert lease.reason == "the free memory of desk/0 is not known (the exporter is silent), and unknown is not free"
    assert "it was not measured yet" in one(book(wish()), now(card(7000, gpu_index=3))).reason


def test_before_the_queues_were_looked_at_nothing_is_granted() -> None:
    assert "the queues were not looked at" in one(book(wish()), now(lane_uses=None)).reason


def test_what_was_granted_and_is_not_used_yet_is_not_free() -> None:
    held = granted("x", 3000)
    assert one(book(held, wish()), now(card(5300, trainer_x=500))).state == "granted"
    assert one(book(held, wish()), now(card(5299, trainer_x=500))).reason == (
        "desk/0 has 5299 MiB measured free; less the floor of 800 MiB and 2500 MiB that were granted and are not in "
        "use yet 1999 MiB are left, and 2000 MiB do not fit"
    )


def test_what_a_pod_used_before_its_lease_is_no_use_of_the_lease() -> None:
    held = granted("x", 3000, base_mib=500)
    assert "1700 MiB are left" in one(book(held, wish()), now(card(5500, trainer_x=500))).reason


def test_use_that_nobody_measures_counts_as_none_until_its_holder_reports_it() -> None:
    outside = granted("x", 3000, base_mib=None, holder=wish().holder.model_copy(update={"pod": ""}))
    assert one(book(outside, wish()), now(card(5500))).state == "waiting"
    reported = outside.model_copy(update={"used_mib": 3000})
    assert one(book(reported, wish()), now(card(5500))).state == "granted"


def test_running_jobs_of_lanes_count_in_the_ledger_and_while_they_load_in_the_measured_memory() -> None:
    loading = LaneUse("chat", "ollama", 4608, loaded_mib=0)
    assert "has 2892 of 7500 MiB" in one(book(wish(mib=3000)), now(card(7000), lane_uses=(loading,))).reason
    assert "4608 MiB that were granted" in one(book(wish()), now(card(7000), lane_uses=(loading,))).reason
    loaded = LaneUse("chat", "ollama", 4608, loaded_mib=4608)
    assert one(book(wish()), now(card(3000), lane_uses=(loaded,))).state == "granted"


def test_a_tenants_leases_and_jobs_stay_within_its_budget() -> None:
    settings = lease_settings(holder_rule("ollama", room_mib=5120))
    lanes = (lane_rule("own", "ollama"),)
    mine = wish(tenant="ollama", lane="own")
    busy = now(card(7000), lane_uses=(LaneUse("chat", "ollama", 4608, 4608),))
    assert one(book(mine), busy, settings, lanes).reason == (
        "tenant ollama has 5120 MiB, of which 0 MiB are leased and 4608 MiB needed by jobs that run; "
        "2000 MiB do not fit"
    )
    assert one(book(mine), now(card(7000)), settings, lanes).state == "granted"


def test_an_always_on_tenant_leases_out_of_its_own_promise() -> None:
    settings = lease_settings(
        holder_rule("ollama", room_mib=5120),
        nodes=(node_rule(CardRule(gpu_index=0, advertised_mib=7500, promised_mib={"ollama": 5120, "other": 2380})),),
    )
    mine = wish(mib=5120, tenant="ollama", lane="own")
    assert one(book(mine), now(card(7000)), settings, (lane_rule("own", "ollama"),)).state == "granted"


def test_realtime_goes_first_then_priority_then_who_asked_first() -> None:
    waiting = book(wish("night", lane="night"), wish("late", at=5), wish("early", at=1), wish("real", lane="ask", at=9))
    _, decisions = decided(waiting, now(card(2900)), lease_settings(holder_rule(room_mib=9000)))
    assert [(type(d), d.lease.id) for d in decisions] == [
        (Grant, "real"), (Wait, "early"), (Wait, "late"), (Wait, "night"),
    ]  # fmt: skip


def test_a_small_one_does_not_overtake_a_large_one_in_its_lane() -> None:
    after, _ = decided(book(wish("large", 5000), wish("small", 100, at=1)), now(card(3000)))
    small = after.get("small")
    assert small is not None
    assert (small.state, small.place) == ("waiting", 2)
    assert small.reason == "others of lane day asked before it, and nobody overtakes within a lane"


def test_who_waits_for_memory_keeps_back_those_after_it_on_the_node() -> None:
    after, _ = decided(book(wish("large", 5000, lane="ask"), wish("small", 100)), now(card(3000)))
    small = after.get("small")
    assert small is not None
    assert (small.state, small.place) == ("waiting", 1)
    assert small.reason == "5000 MiB for tenant trainer in lane ask are waited for, and go first"


def test_who_waits_for_its_tenants_budget_keeps_back_those_of_its_tenant_in_every_lane() -> None:
    settings = lease_settings(holder_rule(room_mib=3000))
    waiting = book(granted("x", 2000), wish("large", 2000, lane="ask"), wish("small", 100, lane="day"))
    after, _ = decided(waiting, now(card(7000)), settings)
    assert [lease.id for lease in after.granted()] == ["x"]
    assert after.leases["small"].reason == ("2000 MiB for tenant trainer in lane ask are waited for, and go first")


def test_who_waits_for_its_own_budget_or_window_keeps_nobody_else_back() -> None:
    settings = lease_settings(holder_rule(room_mib=2000), holder_rule("plex"))
    lanes = (lane_rule("a-lane"), lane_rule("b-lane", "plex"))
    waiting = book(
        granted("x", 2000, lane="a-lane"), wish("mine", lane="a-lane"), wish("b", tenant="plex", lane="b-lane", at=1)
    )
    after, _ = decided(waiting, now(card(7000)), settings, lanes)
    assert {key: lease.state for key, lease in after.leases.items()} == {
        "x": "granted", "mine": "waiting", "b": "granted",
    }  # fmt: skip


def test_outside_its_windows_a_batch_lane_gets_none_and_is_told_until_when() -> None:
    lease = one(book(wish(lane="night")), now(wall_at=NOON))
    assert lease.reason == "lane night is outside its windows until 2026-11-25T17:00:00+00:00"
    assert one(book(wish(lane="day")), now(wall_at=NOON)).state == "granted"


def test_a_lease_ends_with_its_window() -> None:
    held = one(book(wish(lane="night")), now())
    assert held.closes_at is not None
    assert held.closes_at.isoformat() == "2026-11-26T08:00:00+00:00"
    over = one(book(held), now(seconds=1, wall_at=held.closes_at))
    assert over.end is End.WINDOW
    assert over.reason.startswith("lane night is outside its windows until 2026-11-26T17:00:00+00:00, and its leases")


def test_a_lease_that_is_not_renewed_expires_and_one_that_is_stays() -> None:
    held = book(granted())
    assert one(held, now(seconds=30)).state == "granted"
    over = one(held, now(seconds=30.1))
    assert (over.end, over.ended_at) == (End.EXPIRED, EVENING + timedelta(seconds=30.1))
    renewed = held.seen({"a": (EVENING + timedelta(seconds=20), None)})
    assert one(renewed, now(seconds=45)).state == "granted"


def test_who_is_granted_has_a_whole_life_from_then_on() -> None:
    held = one(book(wish()), now(card(7000), seconds=29))
    assert one(book(held), now(seconds=59)).end is None
    assert one(book(held), now(seconds=59.1)).end is End.EXPIRED


def test_who_waits_longer_than_it_said_is_overdue() -> None:
    waiting = book(wish(max_wait_seconds=10.0), wish("b", max_wait_seconds=100.0))
    assert overdue(waiting, now(seconds=10)) == ()
    assert overdue(waiting, now(seconds=25)) == (Overdue("a", "trainer", "day", "waiting", 15.0),)


def test_memory_of_an_expired_lease_is_leased_again_in_the_same_pass_if_it_is_measured_free() -> None:
    after, decisions = decided(book(granted("x", 6000), wish(mib=6000, at=31)), now(card(7000), seconds=31))
    assert [type(d) for d in decisions] == [Finish, Grant]
    assert after.leases["a"].state == "granted"


def test_who_has_waited_as_long_as_it_said_is_refused_with_the_reason() -> None:
    lease = one(book(wish(max_wait_seconds=10.0)), now(card(2500), seconds=10))
    assert lease.end is End.REFUSED
    assert lease.reason.startswith("it waited 10 s, as long as it said it would; desk/0 has 2500 MiB measured free")


def test_who_will_not_wait_gets_it_now_or_is_refused_now() -> None:
    assert one(book(wish(max_wait_seconds=0.0)), now(card(7000))).state == "granted"
    assert one(book(wish(max_wait_seconds=0.0)), now(card(2500))).reason.startswith("desk/0 has 2500 MiB")


def test_who_waits_and_does_not_ask_any_more_is_given_up() -> None:
    assert one(book(wish(max_wait_seconds=600.0)), now(card(2500), seconds=31)).end is End.SILENT


def test_a_lease_of_a_lane_that_the_estate_lost_ends() -> None:
    assert one(book(granted(lane="gone")), now()).end is End.REFUSED


def test_an_ended_lease_is_remembered_and_then_forgotten() -> None:
    over = granted().ended(End.RELEASED, "given back", EVENING)
    assert decided(book(over), now(seconds=600))[1] == ()
    assert decided(book(over), now(seconds=601))[1] == (Forget(over),)
    held = now(card(3000, trainer_a=2000), seconds=601)
    assert decided(book(over), held)[1] == (), "its memory is still there, so somebody has to be told"


@pytest.mark.parametrize("index", [0, 1])
def test_of_several_cards_the_emptiest_that_fits_is_taken(index: int) -> None:
    settings = lease_settings(nodes=(node_rule(*(CardRule(gpu_index=i, advertised_mib=7500) for i in range(2))),))
    cards = [card(3000, 0), card(3000, 1)]
    cards[index] = card(6000, index)
    assert one(book(wish()), now(*cards), settings).gpu_index == index


def test_a_card_that_is_unknown_does_not_stop_another() -> None:
    settings = lease_settings(nodes=(node_rule(*(CardRule(gpu_index=i, advertised_mib=7500) for i in range(2))),))
    assert one(book(wish()), now(card(None, 0), card(7000, 1)), settings).gpu_index == 1
