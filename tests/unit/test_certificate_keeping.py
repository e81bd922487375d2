"""The webhook's certificate: trust first, then time, then use; from every crash it goes on to the same end."""

from __future__ import annotations

import pytest

from helpers.domain.admission.certificate_plan import MOST_AUTHORITIES_COUNT, ServingCertificate
from helpers.domain.errors import ClusterError, Forbidden
from helpers.ports.cluster import ObjectRef
from helpers.services.certificates import CertificateKeeper
from tests.fakes.injector_world import (
    DAY,
    DNS_NAME,
    NAMESPACE,
    SETTLE_SECONDS,
    Crash,
    World,
    configuration,
    writes_of,
)


def kept_world() -> tuple[World, CertificateKeeper, ServingCertificate]:
    """A world that has its first certificate."""
    world = World()
    keeper = world.keeper()
    world.until_kept(keeper)
    return world, keeper, world.secret()


def test_the_first_certificate_is_trusted_before_it_is_there_and_nobody_waits() -> None:
    world = World()
    began = world.clock.seconds
    world.until_kept(world.keeper())
    assert list(writes_of(world)) == ["MutatingWebhookConfiguration", "Secret"]
    assert world.clock.seconds == began, "nobody was trusted before, so nothing could break"
    serving = world.secret()
    assert world.trusted() == [{serving.authority.fingerprint}] * 3
    assert serving.names == {DNS_NAME}
    assert world.metrics.acts == ["issued", "trusted", "rotated"]
    assert [event[2] for event in world.events.recorded] == ["GpumemAuthoritiesTrusted", "GpumemCertificateRotated"]


def test_the_authoritys_key_is_nowhere() -> None:
    world, _, _ = kept_world()
    data = world.cluster.now(world.secret_ref)["data"]
    assert set(data) == {"tls.crt", "tls.key", "ca.crt"}
    first = world.secret()
    world.clock.advance(61 * DAY)
    world.until_kept(world.keeper())
    assert world.secret().authority.fingerprint != first.authority.fingerprint


def test_the_injector_owns_caBundle_and_nothing_else_of_the_configuration() -> None:  # noqa: N802 - the field's name
    world, _, _ = kept_world()
    owned = world.cluster.owned_by(world.settings.configuration_ref, "gpumem-injector")
    assert {path.rpartition(".")[2] for path in owned} == {"caBundle", "name"}


def test_a_kept_certificate_is_left_alone_until_two_thirds_of_its_life_are_over() -> None:
    world, keeper, first = kept_world()
    for _ in range(59):
        world.clock.advance(DAY)
        assert world.until_kept(keeper) == 0
    assert world.secret().fingerprint == first.fingerprint
    world.clock.advance(2 * DAY)
    world.until_kept(keeper)
    assert world.secret().fingerprint != first.fingerprint
    assert "two thirds" in str(world.log.of("certificate_rotated")[-1]["reason"])


def test_a_rotation_publishes_waits_and_then_serves() -> None:
    world, keeper, first = kept_world()
    world.clock.advance(61 * DAY)
    while keeper.step() == 0.0:
        pass
    assert world.secret().fingerprint == first.fingerprint, "not yet served"
    (both,) = {frozenset(each) for each in world.trusted()}
    assert first.authority.fingerprint in both
    assert len(both) == 2
    world.clock.advance(SETTLE_SECONDS - 0.5)
    assert 0 < keeper.step() <= 0.5
    assert world.secret().fingerprint == first.fingerprint, "half a second is left"
    world.clock.advance(0.5)
    world.until_kept(keeper)
    second = world.secret()
    assert second.authority.fingerprint in both
    assert world.trusted() == [both] * 3, "replicas may change over when they like"
    world.clock.advance(30 * DAY)
    world.until_kept(keeper)
    assert first.not_after_at < world.clock.now_at()
    assert world.trusted() == [{second.authority.fingerprint}] * 3, "the old authority left when it had expired"


CRASHES = [(write, after) for write in (1, 2) for after in (False, True)]


class Watched:
    """A replica that takes each certificate at once, and an API server that reads caBundle with a delay."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.served: ServingCertificate | None = None
        self.history: list[tuple[float, set[str]]] = []
        world.cluster.watchers.append(self.look)

    def look(self) -> None:
        now = self.world.clock.seconds
        self.history.append((now, set.intersection(*self.world.trusted())))
        if self.world.has_secret():
            self.served = self.world.secret()
        if self.served is not None:
            seen = [trusted for at, trusted in self.history if at <= now - SETTLE_SECONDS + 0.001]
            late = seen[-1] if seen else set()
            # What an API server that is as late as can be still trusts; nobody, at the very beginning.
            assert not late or self.served.authority.fingerprint in late


@pytest.mark.parametrize(("write", "after"), CRASHES)
def test_from_a_crash_in_the_first_installation_the_next_process_goes_on(write: int, after: bool) -> None:
    world = World()
    crash_and_recover(world, write, after=after)


@pytest.mark.parametrize(("write", "after"), CRASHES)
def test_from_a_crash_in_a_rotation_the_next_process_goes_on_and_no_review_fails(write: int, after: bool) -> None:
    world, _, first = kept_world()
    world.clock.advance(61 * DAY)
    Watched(world).look()
    world.clock.advance(60)
    crash_and_recover(world, write, after=after)
    assert world.secret().fingerprint != first.fingerprint
    assert all(first.authority.fingerprint in each for each in world.trusted())


@pytest.mark.parametrize("most_writes", range(1, 5))
def test_a_process_that_crashes_again_and_again_leaves_a_bounded_caBundle(most_writes: int) -> None:  # noqa: N802
    world, _, _ = kept_world()
    world.clock.advance(61 * DAY)
    for _ in range(20):
        world.cluster.writes, world.cluster.crash_at, world.cluster.crash_after_writing = 0, 1, most_writes % 2 == 1
        with pytest.raises(Crash):
            world.until_kept(world.keeper())
        world.clock.advance(most_writes * 20)
    world.cluster.crash_at = 0
    world.until_kept(world.keeper())
    serving = world.secret()
    assert all(serving.authority.fingerprint in each for each in world.trusted())
    assert max(len(each) for each in world.trusted()) <= MOST_AUTHORITIES_COUNT


def crash_and_recover(world: World, write: int, *, after: bool) -> None:
    world.cluster.writes, world.cluster.crash_at, world.cluster.crash_after_writing = 0, write, after
    with pytest.raises(Crash):
        world.until_kept(world.keeper())
    world.cluster.crash_at = 0
    world.clock.advance(15)  # the Lease runs out
    world.until_kept(world.keeper())
    serving = world.secret()
    assert serving.in_time(world.clock.now_at())
    assert all(serving.authority.fingerprint in each for each in world.trusted())


def test_a_deleted_secret_is_replaced_while_the_served_one_stays_trusted() -> None:
    world, keeper, first = kept_world()
    Watched(world).look()
    world.clock.advance(60)
    world.cluster.remove(world.secret_ref)
    world.until_kept(keeper)
    assert world.secret().fingerprint != first.fingerprint
    assert all(first.authority.fingerprint in each for each in world.trusted())


def test_an_emptied_caBundle_is_filled_at_once_with_the_same_authority() -> None:  # noqa: N802 - the field's name
    world, keeper, first = kept_world()
    began = world.clock.seconds
    world.empty_bundles()
    world.until_kept(keeper)
    assert world.clock.seconds == began
    assert world.secret().fingerprint == first.fingerprint
    assert world.trusted() == [{first.authority.fingerprint}] * 3
    assert world.log.of("authorities_trusted")[-1]["reason"] == "an authority in use was missing"


def test_something_else_in_caBundle_is_put_right() -> None:  # noqa: N802 - the field's name
    world, keeper, first = kept_world()
    world.set_bundles("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n" + first.authority.pem)
    world.until_kept(keeper)
    assert world.trusted() == [{first.authority.fingerprint}] * 3
    (pem,) = {
        one["clientConfig"]["caBundle"] for one in world.cluster.now(world.settings.configuration_ref)["webhooks"]
    }
    assert pem


def test_both_gone_at_once_are_both_made_anew() -> None:
    world, keeper, first = kept_world()
    world.cluster.remove(world.secret_ref)
    world.empty_bundles()
    world.until_kept(keeper)
    serving = world.secret()
    assert serving.fingerprint != first.fingerprint
    assert world.trusted() == [{serving.authority.fingerprint}] * 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"tls.key": ""}, "cannot be used"),
        ({"tls.crt": "bm8="}, "cannot be used: tls.crt"),
        ({"ca.crt": None}, "cannot be used: ca.crt is missing"),
        ({"ca.crt": "%%%"}, "cannot be used"),
    ],
)
def test_a_secret_that_cannot_be_served_is_replaced(data: dict[str, str | None], reason: str) -> None:
    world, keeper, first = kept_world()
    world.cluster.write(world.secret_ref, {"data": data})
    world.until_kept(keeper)
    assert world.secret().fingerprint != first.fingerprint
    assert reason in str(world.log.of("certificate_rotated")[-1]["reason"])


def test_another_name_means_another_certificate() -> None:
    world, _, _ = kept_world()
    world.until_kept(world.keeper(dns_names=frozenset({DNS_NAME, "127.0.0.1"})))
    assert world.secret().names == {DNS_NAME, "127.0.0.1"}


def test_an_expired_certificate_is_replaced_without_waiting() -> None:
    world, keeper, _ = kept_world()
    world.clock.advance(91 * DAY)
    began = world.clock.seconds
    world.until_kept(keeper)
    assert world.clock.seconds == began, "nobody can be trusted any more"
    assert world.secret().in_time(world.clock.now_at())


def test_without_a_configuration_there_is_a_certificate_and_it_is_trusted_once_there_is_one() -> None:
    world = World(with_configuration=False)
    keeper = world.keeper()
    world.until_kept(keeper)
    serving = world.secret()
    world.cluster.add(configuration(), manager="gpumem-terraform")
    world.until_kept(keeper)
    assert world.secret().fingerprint == serving.fingerprint
    assert world.trusted() == [{serving.authority.fingerprint}] * 3


def test_who_does_not_lead_does_nothing_and_forgets_what_it_had_begun() -> None:
    world, keeper, first = kept_world()
    world.clock.advance(61 * DAY)
    while keeper.step() == 0.0:
        pass
    world.leadership.leading = False
    world.clock.advance(600)
    writes = len(list(writes_of(world)))
    for _ in range(5):
        assert keeper.step() > 0
    assert len(list(writes_of(world))) == writes
    assert world.metrics.leading is False
    world.leadership.leading = True
    world.until_kept(keeper)
    assert world.secret().fingerprint != first.fingerprint


def test_a_leader_that_was_overtaken_gets_a_conflict_and_looks_again() -> None:
    world, keeper, first = kept_world()
    world.clock.advance(61 * DAY)
    while keeper.step() == 0.0:
        pass
    other = world.keeper()  # it leads now, and the first one does not know yet
    world.until_kept(other)
    rotated = world.secret()
    assert rotated.fingerprint != first.fingerprint
    world.until_kept(keeper)
    assert world.secret().fingerprint == rotated.fingerprint


def test_two_that_both_believe_to_lead_end_with_one_trusted_certificate() -> None:
    world, one, _ = kept_world()
    other = world.keeper()
    world.clock.advance(61 * DAY)
    for _ in range(40):
        waits = (one.step(), other.step())
        if min(waits) >= 60:
            break
        world.clock.advance(min(waits) or 0.1)
    assert all(world.secret().authority.fingerprint in each for each in world.trusted())
    assert min(waits) >= 60


@pytest.mark.parametrize("verb", ["get", "patch"])
@pytest.mark.parametrize("error", [ClusterError("no answer"), Forbidden("403: cannot patch")])
def test_an_api_that_does_not_answer_is_asked_again_and_counted(verb: str, error: Exception) -> None:
    world, keeper, first = kept_world()
    world.clock.advance(61 * DAY)
    keeper.step()  # issued in memory
    world.cluster.fail_next(verb, error)
    assert keeper.step() == 5.0
    assert world.metrics.acts[-1] == "failed"
    assert str(error) in str(world.log.of("certificate_act_failed")[0]["reason"])
    world.until_kept(keeper)
    assert world.secret().fingerprint != first.fingerprint


def test_in_dry_run_nothing_is_written_and_the_log_says_what_would_be() -> None:
    world = World()
    keeper = world.keeper(dry_run=True)
    assert keeper.step() == 60.0
    assert list(writes_of(world)) == []
    assert world.log.of("certificate_would_change") == [{"act": "issue", "reason": "there is no certificate"}]


def test_the_type_of_a_secret_that_is_there_stays_because_it_cannot_be_changed() -> None:
    world = World()
    world.cluster.add(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gpu-webhook-certificate", "namespace": NAMESPACE},
         "type": "Opaque", "data": {"x": "eA=="}},
    )  # fmt: skip
    world.until_kept(world.keeper())
    assert world.cluster.now(world.secret_ref)["type"] == "Opaque"
    assert world.secret()
    assert world.cluster.now(ObjectRef("v1", "Secret", "gpu-webhook-certificate", NAMESPACE))["data"]["x"] == "eA=="
