"""Leader election: at most one leads, at any time, whatever the network and the clocks do."""

from __future__ import annotations

import pytest

from helpers.adapters.lease import LeaderElection, LeaseTimes
from helpers.domain.errors import ClusterError, Forbidden
from helpers.ports.cluster import ObjectRef
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeLog

LEASE = ObjectRef("coordination.k8s.io/v1", "Lease", "gpumem-capacity", "nvidia")


class Candidates:
    """Two candidates for one lease on one clock."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.clock = FakeClock()
        self.log = FakeLog()
        self.first, self.second = self.candidate("first"), self.candidate("second")

    def candidate(self, identity: str) -> LeaderElection:
        return LeaderElection(
            self.cluster, self.clock, self.log, namespace="nvidia", name="gpumem-capacity", identity=identity
        )

    def leaders(self) -> list[bool]:
        return [self.first.leads(), self.second.leads()]

    def spec(self) -> dict[str, object]:
        found: dict[str, object] = self.cluster.now(LEASE)["spec"]
        return found


def ask_for_ever(election: LeaderElection) -> None:
    while True:
        election.leads()


@pytest.fixture
def two() -> Candidates:
    return Candidates()


def test_the_first_to_ask_leads_and_the_second_waits(two: Candidates) -> None:
    assert two.first.try_once()
    assert not two.second.try_once()
    assert two.leaders() == [True, False]
    assert two.spec()["holderIdentity"] == "first"
    assert two.spec()["leaseDurationSeconds"] == 15


def test_a_leader_that_renews_is_never_followed(two: Candidates) -> None:
    for _ in range(40):
        assert two.first.try_once()
        assert not two.second.try_once()
        two.clock.advance(2)


def test_a_leader_that_died_is_followed_after_its_duration_and_not_before(two: Candidates) -> None:
    two.first.try_once()
    two.second.try_once()
    two.clock.advance(14.9)
    assert not two.second.try_once()
    two.clock.advance(0.2)
    assert two.second.try_once()
    assert two.spec()["leaseTransitions"] == 1


def test_the_old_leader_stops_before_the_new_one_may_start(two: Candidates) -> None:
    """Its own deadline, without any answer from the API: it may be cut off."""
    two.first.try_once()
    two.second.try_once()
    for _ in range(200):
        two.clock.advance(0.1)
        two.second.try_once()
        assert sum(two.leaders()) <= 1
    assert two.leaders() == [False, True]


def test_a_leader_that_the_api_does_not_answer_leads_until_its_deadline(two: Candidates) -> None:
    two.first.try_once()
    two.cluster.fail_next("get", ClusterError("no answer"), ClusterError("no answer"))
    two.clock.advance(5)
    assert two.first.try_once()
    two.clock.advance(5)
    assert not two.first.try_once()
    assert two.log.of("leadership_lost")


def test_a_renewal_counts_from_its_start_not_from_its_answer(two: Candidates) -> None:
    two.first.try_once()
    renew = two.cluster.merge_patch

    def slow(*arguments: object, **more: object) -> object:
        two.clock.advance(9)
        return renew(*arguments, **more)  # type: ignore[arg-type]

    two.cluster.merge_patch = slow  # type: ignore[method-assign,assignment]
    two.clock.advance(2)
    assert two.first.try_once()
    two.clock.advance(2)
    assert not two.first.leads()


def test_of_two_that_take_a_dead_lease_together_one_gets_it(two: Candidates) -> None:
    two.candidate("dead").try_once()
    two.first.try_once()
    two.second.try_once()
    two.clock.advance(16)
    read = two.cluster.get

    def get_then_lose(ref: ObjectRef) -> object:
        found = read(ref)
        two.cluster.get = read  # type: ignore[method-assign]
        two.second.try_once()
        return found

    two.cluster.get = get_then_lose  # type: ignore[method-assign,assignment]
    assert not two.first.try_once()
    assert two.leaders() == [False, True]


def test_a_lease_that_was_given_up_is_taken_at_once(two: Candidates) -> None:
    two.first.try_once()
    two.second.try_once()
    two.first.give_up()
    assert two.leaders() == [False, False]
    assert two.second.try_once()


def test_nobody_gives_up_the_lease_of_another(two: Candidates) -> None:
    two.first.try_once()
    two.second.try_once()
    two.second.give_up()
    assert two.spec()["holderIdentity"] == "first"


def test_a_process_that_comes_back_under_its_name_leads_at_once(two: Candidates) -> None:
    two.first.try_once()
    assert two.candidate("first").try_once()


def test_a_clock_that_is_wrong_on_the_other_machine_changes_nothing(two: Candidates) -> None:
    two.first.try_once()
    two.cluster.write(LEASE, {"spec": {"renewTime": "1999-01-01T00:00:00.000000Z"}})
    assert not two.second.try_once()
    two.clock.advance(14)
    assert not two.second.try_once()


def test_a_missing_permission_is_raised_to_who_asks(two: Candidates) -> None:
    two.cluster.forbid("get", "Lease")
    with pytest.raises(Forbidden):
        two.first.try_once()
    with two.first as election, pytest.raises(Forbidden, match="cannot get resource Lease"):
        ask_for_ever(election)


def test_whatever_ends_the_renewing_is_raised_to_who_asks(two: Candidates) -> None:
    """A process whose renewing died unseen would never lead again, and seem well."""

    def ends(ref: ObjectRef) -> None:
        raise OSError("the connection is gone")

    two.cluster.get = ends  # type: ignore[method-assign]
    with two.first as election, pytest.raises(OSError, match="the connection is gone"):
        ask_for_ever(election)
    assert two.log.of("lease_failed")


def test_times_under_which_two_could_lead_are_refused() -> None:
    with pytest.raises(ValueError, match="two could lead at once"):
        LeaseTimes(duration_seconds=10, renew_deadline_seconds=10)


def test_leaving_the_block_gives_the_lease_up(two: Candidates) -> None:
    with two.first as election:
        while not election.leads():
            pass
    assert two.spec()["holderIdentity"] == ""
