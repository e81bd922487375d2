"""Who keeps the node's number by an older document, and what says that a node still shows it."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain import names
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import ObjectRef
from helpers.services.migrate_facts import with_backend
from helpers.services.migrate_hands import Hands
from helpers.services.migrate_number import keepers, number_left, take_number_off
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeEvents, FakeLog
from tests.fakes.world import node
from tests.synth.estates import on_claims

NEWEST = {"gpumem.io/settings-sha256": "new"}


@pytest.fixture
def estate() -> Estate:
    found = on_claims()
    return with_backend(found, [one.name for one in found.nodes], "dra")


def helper(name: str, estate: Estate, *, sha: str = "old", phase: str = "Running", account: str = "") -> dict[str, Any]:
    spec = {
        "serviceAccountName": account or names.CAPACITY_SERVICE_ACCOUNT,
        "containers": [{"name": "c", "image": "x"}],
    }
    annotations = {"gpumem.io/settings-sha256": sha}
    metadata = {"name": name, "namespace": estate.namespace, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase}}


def job(name: str, estate: Estate, *, condition: str = "", suspend: bool = False) -> dict[str, Any]:
    pod = {"serviceAccountName": names.CAPACITY_SERVICE_ACCOUNT, "containers": [{"name": "c", "image": "x"}]}
    conditions = [{"type": condition, "status": "True"}] if condition else []
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": estate.namespace},
        "spec": {"suspend": suspend, "template": {"spec": pod}},
        "status": {"conditions": conditions},
    }


def test_a_pod_of_the_old_watch_and_a_job_that_runs_are_keepers(estate: Estate) -> None:
    cluster, where = FakeCluster(), estate.namespace
    cluster.add(helper("watch-old", estate))
    cluster.add(helper("watch-new", estate, sha="new"))
    cluster.add(helper("ended", estate, phase="Succeeded"))
    cluster.add(helper("exporter", estate, account="gpumem-exporter"))
    cluster.add(job("between-two-tries", estate))
    cluster.add(job("done", estate, condition="Complete"))
    cluster.add(job("gave-up", estate, condition="Failed"))
    cluster.add(job("suspended", estate, suspend=True))
    old = f"pod {where}/watch-old"
    assert keepers(cluster, estate, NEWEST) == (f"Job {where}/between-two-tries", old)
    assert keepers(cluster, estate, None) == (f"Job {where}/between-two-tries", f"pod {where}/watch-new", old)


def hands(cluster: FakeCluster, clock: FakeClock, said: list[str]) -> Hands:
    return Hands(cluster, clock, FakeEvents(), FakeLog(), said.append, 10)


def shows(cluster: FakeCluster, estate: Estate, manager: str) -> str:
    """A node of the estate's kind, with the number by `manager`."""
    kind = estate.nodes[0]
    name = kind.node_name or "gpu-0"
    cluster.add(node(name, dict(kind.selector or {})))
    amounts = {estate.resource: "14k"}
    status = {"capacity": amounts, "allocatable": dict(amounts)}
    shown = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}
    cluster.apply(shown, field_manager=manager, subresource="status", force=True)
    return name


def test_the_number_stays_on_until_its_keeper_is_gone(estate: Estate) -> None:
    cluster, clock, said = FakeCluster(), FakeClock(), list[str]()
    name = shows(cluster, estate, names.FIELD_MANAGER_CAPACITY)
    cluster.add(helper("watch-old", estate))
    still_shown = []

    def end() -> None:
        still_shown.append(number_left(cluster, estate, estate.nodes[0].name))
        if len(still_shown) == 3:
            cluster.remove(ObjectRef("v1", "Pod", "watch-old", estate.namespace))

    clock.when_slept = end
    take_number_off(hands(cluster, clock, said), estate, estate.nodes[0].name, None)
    assert all(still_shown)
    assert number_left(cluster, estate, estate.nodes[0].name) == ""
    assert [text for text in said if text.startswith("waiting: ")] == [said[0]], "said once, not at each look"
    assert said[-1] == f"node {name}: number taken off"


def test_a_keeper_that_stays_is_named_and_the_number_left_as_it_is(estate: Estate) -> None:
    cluster, clock = FakeCluster(), FakeClock()
    shows(cluster, estate, names.FIELD_MANAGER_CAPACITY)
    cluster.add(helper("watch-old", estate))
    with pytest.raises(CheckFailed, match=rf"pod {estate.namespace}/watch-old still keeps the number .* after 10 s"):
        take_number_off(hands(cluster, clock, []), estate, estate.nodes[0].name, None)
    assert number_left(cluster, estate, estate.nodes[0].name)


def test_a_number_that_somebody_else_wrote_is_refused_with_its_writer(estate: Estate) -> None:
    cluster = FakeCluster()
    name = shows(cluster, estate, "by-hand")
    with pytest.raises(
        CheckFailed, match=rf"node {name}: still shows .*: 14000 MiB.*by-hand, owner; stop who writes it"
    ):
        take_number_off(hands(cluster, FakeClock(), []), estate, estate.nodes[0].name, None)
