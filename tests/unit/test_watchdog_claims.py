"""Budgets that are claims, as the watchdog reads them: how much, of which card, whose, and never an older state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from helpers.domain.dra.naming import DRIVER
from helpers.domain.watchdog.facts import CardBudget, PodFacts
from helpers.ports.cluster import ObjectRef
from helpers.services.claims import CLAIMS
from helpers.services.watch_cache import WatchCache
from helpers.services.watchdog_claims import trimmed_claim, trimmed_slice
from helpers.services.watchdog_pods import PodReading, PodView
from tests.fakes.cluster import FakeCluster
from tests.fakes.watchdog_world import NODE, settings, tenant_pod
from tests.fakes.world import RESOURCE, node
from tests.unit.test_claims_gate import claim, published

SPACE = "immich-ml"


class Scene:
    """A node of two cards with pods whose budgets are claims."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cluster.add(node(NODE))
        self.cluster.add(published("n", 24000, 24000))
        self.view = PodView(self.cluster, PodReading(settings(), RESOURCE, "gpumem.io", DRIVER))

    def pod(self, ordinal: int = 0) -> dict[str, Any]:
        """A tenant's pod that declares no number."""
        pod = tenant_pod(SPACE, ordinal)
        for container in pod["spec"]["containers"]:
            container["resources"] = {"claims": [{"name": "gpumem"}]}
        return self.cluster.add(pod)

    def claim(self, name: str, pod: Mapping[str, Any], amount: str = "3000Mi", device: str = "gpu-0") -> dict[str, Any]:
        """`pod` has `amount` of `device`."""
        held = claim(name, "n", device, amount)
        held["metadata"]["namespace"] = SPACE
        user = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        held["status"]["reservedFor"] = [user]
        return self.cluster.add(held)

    def watched(self) -> None:
        """All that the watches have to tell by now."""
        for follow in (self.view.follow, self.view.claims.follow, self.view.claims.follow_slices):
            follow(lambda: True)

    def fresh(self) -> dict[str, PodFacts]:
        return {one.name: one for one in self.view.fresh(NODE)}

    def only(self) -> PodFacts:
        (found,) = self.view.fresh(NODE)
        return found

    def during_the_list(self, kind: ObjectRef, act: Callable[[], None]) -> None:
        """`act` happens after the API server made its answer to the next list of `kind`, and before it is read."""
        answer = self.cluster.list

        def late(ref: ObjectRef, **named: Any) -> Any:
            listed = answer(ref, **named)
            if ref == kind:
                self.cluster.list = answer  # type: ignore[method-assign]
                act()
            return listed

        self.cluster.list = late  # type: ignore[method-assign]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_budget_that_is_a_claim_counts_like_a_number_and_has_a_card(scene: Scene) -> None:
    scene.claim("x", scene.pod(), device="gpu-1")
    found = scene.only()
    assert (found.budget_mib, found.cards) == (3000, (CardBudget("GPU-n-1", 3000),))
    assert scene.view.all() == (found,)
    seen = scene.view.find(found.uid)
    assert seen is not None
    assert seen.facts == found
    other = Scene()
    other.claim("x", other.pod(), device="gpu-1")
    other.watched()
    assert [one.cards for one in other.view.all()] == [found.cards]


def test_what_the_watch_keeps_of_objects_is_all_that_is_read() -> None:
    whole, kept = claim("x", "n", "gpu-0", "3000Mi", pods=("p",)), published("n", 24000)
    assert trimmed_claim(whole)["status"] == whole["status"]
    assert trimmed_slice(kept)["spec"]["devices"] == [
        {"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-n-0"}}},
    ]


def test_a_card_that_no_slice_has_leaves_the_sum(scene: Scene) -> None:
    pod = scene.pod()
    scene.claim("x", pod)
    scene.claim("y", pod, "1000Mi", device="gpu-7")
    found = scene.only()
    assert (found.budget_mib, found.cards) == (4000, None)


def test_a_claim_that_cannot_be_read_is_its_pods_problem_and_nobody_elses(scene: Scene) -> None:
    scene.claim("x", scene.pod(), "3 GiB")
    scene.claim("y", scene.pod(1))
    found = scene.fresh()
    assert found[f"{SPACE}-5d9c-1"].budget_mib == 3000
    broken = found[f"{SPACE}-5d9c-0"]
    assert broken.budget_mib is None
    assert "3 GiB" in broken.budget_problem


def test_several_claims_of_a_pod_are_one_budget(scene: Scene) -> None:
    pod = scene.pod()
    scene.claim("first", pod, "1500Mi")
    scene.claim("second", pod, "1500Mi")
    found = scene.only()
    assert (found.budget_mib, found.budget_on_mib("GPU-n-0"), found.budget_on_mib("GPU-n-1")) == (3000, 3000, 0)


def test_the_claim_of_a_predecessor_of_the_same_name_is_not_the_pods(scene: Scene) -> None:
    pod = scene.pod()
    scene.claim("old", {"metadata": {**pod["metadata"], "uid": "gone"}}, "9000Mi")
    assert scene.only().budget_mib is None
    scene.claim("new", pod)
    assert scene.only().budget_mib == 3000


def test_without_a_driver_no_claim_is_asked_for() -> None:
    scene = Scene()
    scene.pod()
    scene.cluster.forbid("list", "ResourceClaim")
    scene.cluster.forbid("list", "ResourceSlice")
    scene.view = PodView(scene.cluster, PodReading(settings(), RESOURCE, "gpumem.io"))
    scene.watched()
    assert scene.only().budget_mib is None


def test_a_list_that_was_answered_before_does_not_take_a_newer_allocation_away(scene: Scene) -> None:
    pod = scene.pod()
    held = scene.claim("x", pod)
    ref = ObjectRef(held["apiVersion"], held["kind"], "x", SPACE)
    result = {**held["status"]["allocation"]["devices"]["results"][0], "consumedCapacity": {"memory": "5000Mi"}}
    patch = {"status": {"allocation": {"devices": {"results": [result]}}}}

    def changed() -> None:
        scene.cluster.write(ref, patch, subresource="status")
        scene.watched()

    scene.during_the_list(CLAIMS, changed)
    assert scene.only().budget_mib == 5000


def test_a_list_that_was_answered_before_brings_no_deleted_claim_back() -> None:
    cache: WatchCache[int] = WatchCache()
    item = {"metadata": {"uid": "a", "resourceVersion": "7"}}
    cache.put(item, 3000)
    before = cache.known()
    cache.drop(item)
    cache.learn(before, [(item, 3000)])
    assert cache.values() == ()


def test_a_claim_made_while_a_list_is_answered_stays(scene: Scene) -> None:
    pod = scene.pod()

    def made() -> None:
        scene.claim("x", pod)
        scene.watched()

    scene.during_the_list(CLAIMS, made)
    assert scene.only().budget_mib == 3000


def test_a_claim_that_a_list_lacks_is_gone(scene: Scene) -> None:
    held = scene.claim("x", scene.pod())
    assert scene.only().budget_mib == 3000
    scene.cluster.remove(ObjectRef(held["apiVersion"], held["kind"], "x", SPACE))
    assert scene.only().budget_mib is None


def test_a_card_keeps_its_place_by_the_newest_generation(scene: Scene) -> None:
    scene.claim("x", scene.pod())
    newer = published("n", 24000, generation=2)
    newer["metadata"]["name"] = "a-newer"
    newer["spec"]["devices"][0]["attributes"]["uuid"] = {"string": "GPU-new"}
    scene.cluster.add(newer)
    assert scene.only().cards == (CardBudget("GPU-new", 3000),)
