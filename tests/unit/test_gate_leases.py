"""A gate's lease in the book that everybody's leases are in."""

from __future__ import annotations

from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.leases.book import Holder
from helpers.domain.leases.requests import LeaseRequest
from helpers.services.gate_leases import BookLeases, EitherLeases, UnsharedLeases
from tests.fakes.gates import gate_rule
from tests.fakes.lease_ports import LeaseBench
from tests.fakes.leases import card
from tests.fakes.outside import FakeLog

OTHER = Holder(user="somebody", namespace="train", pod="trainer-0", pod_uid="u-0")


def rule(**fields: object) -> GateRule:
    update = {"lease_lane": "day", "lease_wait_seconds": 3600.0, "need_mib": 4000, "node": "desk"} | fields
    return gate_rule("trainer", namespace="train").model_copy(update=update)


def gate_book(bench: LeaseBench) -> tuple[BookLeases, FakeLog]:
    log = FakeLog()
    return BookLeases(bench.keeper, log), log


def test_it_is_granted_found_by_the_next_leader_and_given_back() -> None:
    bench = LeaseBench()
    leases, _ = gate_book(bench)
    assert leases.state(rule()) == "none"
    leases.take(rule())
    assert leases.state(rule()) == "granted"
    (lease,) = bench.keeper.book.granted()
    assert (lease.tenant, lease.lane, lease.mib, lease.holder.user) == ("trainer", "day", 4000, "gate:trainer")
    following, _ = gate_book(LeaseBench(store=bench.store))
    assert following.state(rule()) == "granted"
    following.take(rule())
    following.give_back(rule())
    assert leases.state(rule()) == "none"
    assert not bench.keeper.book.granted()
    leases.take(rule())
    assert leases.state(rule()) == "granted"  # an ended one is no answer to a new question


def test_it_waits_while_another_holds_the_memory_and_keeps_its_place() -> None:
    bench = LeaseBench()
    taken = bench.keeper.ask(LeaseRequest(tenant="trainer", mib=5000, lane="day"), OTHER)
    leases, _ = gate_book(bench)
    leases.take(rule())
    leases.take(rule())
    assert leases.state(rule()) == "queued"
    assert len(bench.keeper.book.waiting()) == 1
    bench.keeper.release(taken.id)
    assert leases.state(rule()) == "granted"


def test_it_tells_the_book_what_its_own_pods_use_and_no_others() -> None:
    bench = LeaseBench()
    leases, _ = gate_book(bench)
    leases.take(rule())
    bench.cards.cards = (card(3000, trainer_7d4f9c6b5_abcde=2500, other_7d4f9c6b5_abcde=900),)
    bench.store.pass_seconds(1)
    leases.keep(rule())
    leases.state(rule())
    (lease,) = bench.keeper.book.granted()
    assert lease.used_mib == 2500


def test_a_store_that_does_not_answer_is_unknown_and_said_once() -> None:
    bench = LeaseBench()
    leases, log = gate_book(bench)
    leases.take(rule())
    bench.store.broken = "no answer"
    assert leases.state(rule()) is None
    assert leases.state(rule()) is None
    assert len(log.of("gate_lease_failed")) == 1


def test_what_can_never_be_granted_is_said_and_not_asked_for_ever() -> None:
    leases, log = gate_book(LeaseBench())
    leases.take(rule(need_mib=6001))
    leases.take(rule(need_mib=6001))
    (line,) = log.of("gate_lease_failed")
    assert "within its budget" in str(line["reason"])


def test_a_gate_on_a_lane_with_queues_holds_none_in_the_book() -> None:
    bench = LeaseBench()
    leases = EitherLeases(gate_book(bench)[0], UnsharedLeases())
    leases.take(rule(lease_lane=None))
    assert leases.state(rule(lease_lane=None)) == "granted"
    assert not bench.keeper.book.leases
    leases.give_back(rule(lease_lane=None))
    assert leases.state(rule(lease_lane=None)) == "none"
