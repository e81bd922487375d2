"""How long a node that registers again is without what a helper puts there: shared by the benchmarks of it."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from helpers.adapters.kubernetes_ import KubernetesCluster
from helpers.ports.cluster import ObjectRef
from lab.cluster import Lab

BOUND_SECONDS = 60.0
NODES = ObjectRef("v1", "Node")


class Observer:
    """Notes, for each Node object by uid, when it was first seen and when it first had what is restored.

    `restored_uid` says of an object of `kind` (a Node itself, or what is about one) for which Node's uid it is there;
    empty: for none.
    """

    def __init__(
        self, cluster: KubernetesCluster, restored_uid: Callable[[Mapping[str, Any]], str], kind: ObjectRef = NODES
    ) -> None:
        self._cluster = cluster
        self._restored_uid = restored_uid
        self._changed = threading.Condition()
        self._seen: dict[str, float] = {}
        self._restored: dict[str, float] = {}
        self._uid_of: dict[str, str] = {}
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(ref,)) for ref in dict.fromkeys((NODES, kind))]
        self._kind = kind

    def __enter__(self) -> Observer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def restored_seconds(self, name: str, *, other_than: str = "") -> tuple[str, float]:
        """Waits until a Node object `name` with another uid is restored: that uid, and how long it took."""
        end = time.monotonic() + BOUND_SECONDS
        with self._changed:
            while (uid := self._uid_of.get(name, "")) in ("", other_than) or uid not in self._restored:
                if not self._changed.wait(end - time.monotonic()):
                    raise SystemExit(f"node {name} was not restored after {BOUND_SECONDS:.0f} s")
            return uid, self._restored[uid] - self._seen[uid]

    def _follow(self, ref: ObjectRef) -> None:
        for event in self._cluster.watch(ref, stop=self._stopped.is_set):
            now, metadata = time.monotonic(), event.object["metadata"]
            if event.type == "DELETED":
                continue
            with self._changed:
                if ref == NODES:
                    self._uid_of[metadata["name"]] = metadata["uid"]
                    self._seen.setdefault(metadata["uid"], now)
                if ref == self._kind and (uid := self._restored_uid(event.object)):
                    self._restored.setdefault(uid, now)
                self._changed.notify_all()


def measure(lab: Lab, observer: Observer, name: str, rounds_count: int, pause_seconds: float = 0.0) -> list[float]:
    """Seconds of each of so many re-registrations of the node `name`."""
    uid, _ = observer.restored_seconds(name)
    taken = []
    for _ in range(rounds_count):
        time.sleep(pause_seconds)
        lab.node_reregister(name, wait=False)
        uid, seconds = observer.restored_seconds(name, other_than=uid)
        taken.append(seconds)
    return taken


def figures(taken: list[float]) -> dict[str, float | int]:
    """Count, p50, p99 and the slowest."""
    ordered = sorted(taken)
    return {
        "count": len(ordered),
        "p50_seconds": round(statistics.median(ordered), 4),
        # The nearest rank: of 50, the slowest.
        "p99_seconds": round(ordered[-(-99 * len(ordered) // 100) - 1], 4),
        "max_seconds": round(ordered[-1], 4),
    }
