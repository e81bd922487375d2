"""The keeper of the book: who may decide, what two replicas do at once, and what a lost store means."""

from __future__ import annotations

import pytest

from helpers.domain.leases.book import Holder, Lease
from helpers.domain.leases.facts import CardFacts
from helpers.domain.leases.requests import LeaseRefused, LeaseRequest
from tests.fakes.lease_ports import LeaseBench
from tests.fakes.leases import card

HOLDER = Holder(user="trainer-sa", namespace="train", pod="trainer-0", pod_uid="u-0")


def request(**fields: object) -> LeaseRequest:
    block: dict[str, object] = {"tenant": "trainer", "mib": 2000, "lane": "day", "max_wait_seconds": 60.0}
    return LeaseRequest.model_validate(block | fields)


def ask(bench: LeaseBench, **fields: object) -> Lease:
    return bench.keeper.ask(request(**fields), HOLDER)


def test_the_leader_decides_at_once() -> None:
    bench = LeaseBench()
    lease = ask(bench, request_id="run-0001")
    assert (lease.id, lease.state) == ("run-0001", "granted")
    assert bench.store.book["run-0001"].state == "granted"
    assert bench.metrics.counted == ["granted run-0001"]


def test_another_replica_takes_the_request_and_the_leader_grants_it() -> None:
    leader = LeaseBench()
    other = LeaseBench(is_leader=False, store=leader.store)
    assert ask(other, request_id="run-0001").state == "waiting"
    other.keeper.turn()
    assert leader.store.book["run-0001"].state == "waiting"
    leader.keeper.turn()
    found = other.keeper.find("run-0001")
    assert found is not None
    assert found.state == "granted"


def test_asked_twice_it_is_one_lease() -> None:
    bench = LeaseBench()
    first = ask(bench, request_id="run-0001")
    assert ask(bench, request_id="run-0001") == first
    assert len(bench.store.book) == 1
    with pytest.raises(LeaseRefused, match="another one has it"):
        ask(bench, request_id="run-0001", mib=100)


def test_two_at_once_do_not_get_the_same_memory() -> None:
    """The other replica, still believing that it leads, grants between our reading and our writing."""
    one = LeaseBench()
    two = LeaseBench(store=one.store)
    one.cards.cards = two.cards.cards = (card(4000),)

    def quicker() -> None:
        one.store.before_commit = lambda: None
        assert ask(two, request_id="quicker-0").state == "granted"

    one.store.before_commit = quicker
    assert ask(one, request_id="slower-00").state == "waiting"


def test_what_changes_for_ever_is_said_and_not_tried_for_ever() -> None:
    bench = LeaseBench()

    def always() -> None:
        bench.store.number += 1

    bench.store.before_commit = always
    with pytest.raises(Exception, match="faster than they can be written"):
        ask(bench)


def test_a_release_lets_the_next_one_in_at_once() -> None:
    bench = LeaseBench()
    ask(bench, request_id="first-00", mib=5000)
    assert ask(bench, request_id="second-0", mib=5000).state == "waiting"
    bench.keeper.release("first-00")
    assert bench.store.book["second-0"].state == "granted"
    assert bench.metrics.counted == ["granted first-00", "granted second-0", "released first-00"]
    assert bench.keeper.release("first-00") is not None, "giving back twice is giving back"
    assert bench.keeper.release("unknown-0") is None


def test_a_renewed_lease_stays_and_a_silent_one_expires_with_an_event_on_its_pod() -> None:
    bench = LeaseBench()
    bench.keeper.turn()
    ask(bench, request_id="run-0001")
    for _ in range(3):
        bench.store.pass_seconds(25)
        assert bench.keeper.renew("run-0001", None) is not None
        bench.keeper.turn()
    assert bench.store.book["run-0001"].state == "granted"
    bench.store.pass_seconds(31)
    bench.keeper.turn()
    assert bench.store.book["run-0001"].end == "expired"
    ((subject, _, reason, text),) = bench.events.recorded
    assert (subject, reason) == ("trainer-0", "GPULeaseExpired")
    assert "it was not renewed for 30 s" in text


@pytest.mark.parametrize(
    "holder", [Holder(user="somebody"), HOLDER.model_copy(update={"namespace": "elsewhere"})], ids=["no pod", "foreign"]
)
def test_an_event_is_only_about_a_pod_of_the_tenants_namespace(holder: Holder) -> None:
    bench = LeaseBench()
    bench.cards.cards = (card(None),)
    assert bench.keeper.ask(request(max_wait_seconds=0.0), holder).end == "refused"
    assert bench.events.recorded == []
    assert bench.keeper.ask(request(max_wait_seconds=0.0), HOLDER).end == "refused"
    assert [one[2] for one in bench.events.recorded] == ["GPULeaseRefused"]


def test_a_new_leader_gives_every_holder_its_time_anew() -> None:
    old = LeaseBench()
    ask(old, request_id="run-0001")
    old.store.pass_seconds(300)  # nobody was there to be renewed with
    new = LeaseBench(store=old.store)
    new.keeper.turn()
    assert new.store.book["run-0001"].end is None
    new.store.pass_seconds(31)
    new.keeper.turn()
    assert new.store.book["run-0001"].end == "expired"


def test_a_store_that_was_away_does_not_expire_anybody() -> None:
    bench = LeaseBench()
    bench.keeper.turn()
    ask(bench, request_id="run-0001")
    bench.store.broken = "Redis: away"
    bench.keeper.turn()
    assert not bench.metrics.answered
    bench.store.pass_seconds(300)
    bench.store.broken = ""
    bench.keeper.turn()
    assert bench.store.book["run-0001"].state == "granted"
    assert [line[1] for line in bench.log.lines].count("leases_not_reachable") == 1


def test_a_flush_ends_all_leases_says_so_and_nothing_else_stops() -> None:
    bench = LeaseBench()
    ask(bench, request_id="run-0001", mib=5000)
    bench.store.flush()
    bench.keeper.turn()
    assert bench.keeper.renew("run-0001", None) is None
    assert "lost 1" in bench.metrics.counted
    assert ask(bench, request_id="run-0002", mib=5000).state == "granted"


def test_memory_that_an_expired_holder_keeps_is_overdue() -> None:
    bench = LeaseBench()
    ask(bench, request_id="run-0001", mib=4000)
    bench.cards.cards = (CardFacts("desk", 0, 3000, pods_mib={("train", "trainer-0"): 4000}),)
    bench.keeper.release("run-0001")
    bench.store.pass_seconds(90)
    bench.keeper.turn()
    (late,) = bench.metrics.overdue
    assert (late.cause, late.seconds, late.held_mib) == ("held", 90.0, 4000 - 512)
    bench.cards.cards = (card(6600),)
    bench.keeper.turn()
    assert bench.metrics.overdue == ()


def test_nothing_is_granted_while_nobody_looks_at_the_queues() -> None:
    bench = LeaseBench()
    bench.uses = None
    assert "were not looked at" in ask(bench).reason


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"tenant": "triner"}, "tenant", 'did you mean "trainer"?'),
        ({"lane": "dya"}, "lane", 'did you mean "day"?'),
        ({"mib": 6001}, "mib", "ask for 6000 or less, or raise its budget_mib"),
        ({"max_wait_seconds": 3601.0}, "max_wait_seconds", "a request waits 3600 s at most"),
    ],
)
def test_what_can_never_be_granted_is_refused_with_place_rule_and_repair(
    fields: dict[str, object], place: str, words: str
) -> None:
    with pytest.raises(LeaseRefused) as raised:
        ask(LeaseBench(), **fields)
    assert raised.value.problem.path == place
    assert words in str(raised.value)
