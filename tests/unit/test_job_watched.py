"""What is kept of the API server's objects: true beside a watch that is late, and one that missed something."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from helpers.adapters.job_engines.watched import COMPARED_EVERY_SECONDS, Wanted, WatchedObjects
from helpers.domain.errors import ClusterError, Forbidden
from helpers.ports.cluster import ObjectRef, WatchEvent
from lab.waiting import wait_for
from tests.fakes.outside import FakeClock, FakeLog

REF = ObjectRef("batch/v1", "Job", "", "vision")


def job(uid: str, version: int, suspend: bool = True, namespace: str = "vision") -> dict[str, Any]:
    head = {"name": uid, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": head, "spec": {"suspend": suspend}}


class LateCluster:
    """`listed`: what a list answers; `told`: what the watch tells, when a test says so; `closed`: who refuses both."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.told: list[WatchEvent] = []
        self.refused: Exception | None = None
        self.closed: dict[str, Exception] = {}
        self.more = threading.Event()

    def list(self, ref: ObjectRef, *, label_selector: str = "") -> list[dict[str, Any]]:
        if ref.namespace in self.closed:
            raise self.closed[ref.namespace]
        return [one for one in self.listed if one["metadata"]["namespace"] == ref.namespace]

    def watch(self, ref: ObjectRef, *, label_selector: str, trim: Any, stop: Any) -> Iterator[WatchEvent]:
        given = 0
        while not stop():
            if ref.namespace in self.closed:
                raise self.closed[ref.namespace]
            if self.refused is not None:
                raise self.refused
            while given < len(self.told):
                yield self.told[given]
                given += 1
            self.more.wait(0.01)


@pytest.fixture
def cluster() -> LateCluster:
    return LateCluster()


@pytest.fixture
def clock() -> FakeClock:
    one = FakeClock()
    one.when_slept = lambda: time.sleep(0.01)  # the watch's thread must not spin
    return one


@pytest.fixture
def watched(cluster: LateCluster, clock: FakeClock) -> Iterator[WatchedObjects]:
    one = WatchedObjects(cluster, [Wanted(REF)], dict, clock, FakeLog())  # type: ignore[arg-type] # what it asks for
    yield one
    one.stop()


def kept(watched: WatchedObjects) -> dict[str, bool]:
    return {one["metadata"]["uid"]: one["spec"]["suspend"] for one in watched.all()}


def raises(watched: WatchedObjects, error: type[Exception]) -> bool:
    try:
        watched.all()
    except error:
        return True
    return False


def test_the_first_look_has_what_is_there_whatever_the_watch_has_told(
    cluster: LateCluster, watched: WatchedObjects
) -> None:
    cluster.listed = [job("a", 5)]
    assert kept(watched) == {"a": True}


def test_a_write_is_believed_before_the_watch_tells_of_it(cluster: LateCluster, watched: WatchedObjects) -> None:
    cluster.listed = [job("a", 5)]
    assert kept(watched) == {"a": True}
    watched.put(job("a", 7, suspend=False))
    cluster.told.append(WatchEvent("MODIFIED", job("a", 6)))  # from before the write
    cluster.told.append(WatchEvent("ADDED", job("b", 8)))
    wait_for(lambda: "b" in kept(watched))
    assert kept(watched)["a"] is False


def test_what_was_deleted_does_not_come_back_by_a_late_event(cluster: LateCluster, watched: WatchedObjects) -> None:
    cluster.listed = [job("a", 5)]
    assert kept(watched) == {"a": True}
    watched.drop("a")
    cluster.told += [WatchEvent("MODIFIED", job("a", 6)), WatchEvent("ADDED", job("b", 7))]
    wait_for(lambda: "b" in kept(watched))
    assert "a" not in kept(watched)


def test_what_the_watch_missed_is_found_by_comparing(
    cluster: LateCluster, watched: WatchedObjects, clock: FakeClock
) -> None:
    cluster.listed = [job("gone", 5), job("stays", 5)]
    assert set(kept(watched)) == {"gone", "stays"}
    cluster.listed = [job("stays", 9, suspend=False), job("new", 10)]
    assert set(kept(watched)) == {"gone", "stays"}
    clock.advance(COMPARED_EVERY_SECONDS)
    assert kept(watched) == {"stays": False, "new": True}


def test_a_watch_that_is_refused_is_said_at_every_look(cluster: LateCluster, watched: WatchedObjects) -> None:
    cluster.refused = Forbidden("watch Job vision: 403")

    wait_for(partial(raises, watched, Forbidden))
    with pytest.raises(Forbidden, match="403"):
        watched.all()


@pytest.fixture
def of_two(cluster: LateCluster, clock: FakeClock) -> Iterator[WatchedObjects]:
    wanted = [Wanted(ObjectRef("batch/v1", "Job", "", project)) for project in ("vision", "text")]
    one = WatchedObjects(cluster, wanted, dict, clock, FakeLog())  # type: ignore[arg-type] # what it asks for
    yield one
    one.stop()


def test_a_namespace_that_refuses_keeps_nobody_else_back(
    cluster: LateCluster, of_two: WatchedObjects, clock: FakeClock
) -> None:
    cluster.listed = [job("a", 5), job("b", 5, namespace="text")]
    assert set(kept(of_two)) == {"a", "b"}
    assert of_two.unread() == {}
    cluster.closed = {"text": Forbidden("list Job text: 403")}
    cluster.listed = [job("c", 6)]
    clock.advance(COMPARED_EVERY_SECONDS)
    # What is gone is forgotten where it can be read, and kept where it cannot.
    assert set(kept(of_two)) == {"b", "c"}
    assert of_two.unread() == {"text": "list Job text: 403"}
    cluster.closed, cluster.listed = {}, [job("c", 6), job("d", 7, namespace="text")]

    def all_read() -> bool:
        clock.advance(COMPARED_EVERY_SECONDS)
        return set(kept(of_two)) == {"c", "d"} and of_two.unread() == {}

    wait_for(all_read)


@pytest.mark.parametrize(
    "closed",
    [
        {"vision": Forbidden("list Job vision: 403"), "text": Forbidden("list Job text: 403")},
        {"text": ClusterError("no answer")},
    ],
)
def test_all_that_refuse_and_one_that_does_not_answer_are_the_cluster_being_away(
    cluster: LateCluster, of_two: WatchedObjects, closed: dict[str, Exception]
) -> None:
    cluster.closed = closed
    for _ in range(2):
        with pytest.raises(ClusterError, match=r"403|no answer"):
            of_two.all()


def test_what_nobody_foresaw_in_a_watch_is_raised_at_the_next_look(
    cluster: LateCluster, watched: WatchedObjects
) -> None:
    """The process ends of it and begins anew: objects that stand still would be taken for true."""
    assert kept(watched) == {}
    cluster.refused = OSError("the connection is gone")

    wait_for(partial(raises, watched, OSError))
    cluster.refused = None
    with pytest.raises(OSError, match="the connection is gone"):
        watched.all()
