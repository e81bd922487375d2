"""What the API server has of some kinds, kept by watches: a turn over thousands of jobs asks it nothing.

Two things keep it true. What a write answers is put in at once, so that nobody acts twice on what a
watch has not told yet; and it is compared with a list now and then, so that what a watch missed between
two lists is found.

A namespace that refuses (it was deleted, and its RoleBinding with it) is that namespace's matter alone: what
was known of it is kept, `unread` says so, and the others go on. Where all refuse, or the API server does not
answer, nothing is known of any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.domain.errors import ClusterError, Forbidden, NotFound
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.log import Log

COMPARED_EVERY_SECONDS = 60.0
AGAIN_SECONDS = 5.0
MOST_REMEMBERED_COUNT = 20_000
_REFUSED = (Forbidden, NotFound)
Trim = Callable[[Manifest], dict[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """A collection, and which of it."""

    ref: ObjectRef
    label_selector: str = ""


class WatchedObjects:
    """Objects of one kind in some namespaces, by uid; the first look starts the watches."""

    def __init__(self, cluster: Cluster, wanted: Sequence[Wanted], trim: Trim, clock: Clock, log: Log) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._trim = trim
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._found: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, None] = {}
        self._failures: dict[ObjectRef, ClusterError] = {}
        self._broken: Exception | None = None
        self._compared_seconds: float | None = None
        self._started = self._stopped = False

    def all(self) -> list[dict[str, Any]]:
        """What is there now.

        Raises:
            ClusterError: watches or lists of all namespaces are refused, or the API server does not answer.

        Whatever else ended a watch is raised, too.
        """
        self._start()
        now_seconds = self._clock.monotonic_seconds()
        if self._compared_seconds is None or now_seconds >= self._compared_seconds + COMPARED_EVERY_SECONDS:
            self._compare()
            self._compared_seconds = now_seconds
        with self._lock:
            if self._broken is not None:
                raise self._broken
            for error in self._failures.values():
                if len(self._failures) == len(self._wanted) or not isinstance(error, _REFUSED):
                    raise error
            return list(self._found.values())

    def unread(self) -> dict[str, str]:
        """`{namespace: why}` of those that refuse; what `all` has of them is old."""
        with self._lock:
            return {ref.namespace: str(error) for ref, error in self._failures.items() if ref.namespace}

    def put(self, found: Manifest) -> None:
        """As a write answered, or a watch tells; what is older than what is known changes nothing."""
        self._put_trimmed(self._trim(found))

    def drop(self, uid: str) -> None:
        """It was deleted; what a watch still tells of it is old."""
        with self._lock:
            self._forget(uid)

    def stop(self) -> None:
        """Ends the watches."""
        self._stopped = True

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
        for wanted in self._wanted:
            threading.Thread(target=self._follow, args=(wanted,), name=f"watch {wanted.ref}", daemon=True).start()

    def _follow(self, wanted: Wanted) -> None:
        while not self._stopped:
            try:
                for event in self._cluster.watch(
                    wanted.ref, label_selector=wanted.label_selector, trim=self._trim, stop=lambda: self._stopped
                ):
                    if event.type == "DELETED":
                        self.drop(event.object["metadata"]["uid"])
                    else:
                        self._put_trimmed(event.object)
                    self._well(wanted)
            except ClusterError as error:
                # A right that is missing, a kind that is not served: it is said at the next look, and tried again.
                self._ill(wanted, error)
                self._log.warning("watch_refused", subject=str(wanted.ref), reason=str(error))
                self._pause()
            except Exception as error:  # noqa: BLE001 - raised by `all`: what stands still would be taken for true
                with self._lock:
                    self._broken = error
                return

    def _pause(self) -> None:
        until_seconds = self._clock.monotonic_seconds() + AGAIN_SECONDS
        while not self._stopped and self._clock.monotonic_seconds() < until_seconds:
            self._clock.sleep_seconds(0.2)

    def _put_trimmed(self, found: Manifest) -> None:
        metadata = found["metadata"]
        with self._lock:
            known = self._found.get(metadata["uid"])
            if metadata["uid"] not in self._gone and (known is None or _version(known) <= _version(found)):
                self._found[metadata["uid"]] = dict(found)

    def _ill(self, wanted: Wanted, error: ClusterError) -> None:
        with self._lock:
            self._failures[wanted.ref] = error

    def _well(self, wanted: Wanted) -> None:
        with self._lock:
            self._failures.pop(wanted.ref, None)

    def _compare(self) -> None:
        with self._lock:
            before = {uid: one["metadata"].get("namespace", "") for uid, one in self._found.items()}
        listed: dict[str, dict[str, Any]] = {}
        read: set[str] = set()
        for wanted in self._wanted:
            try:
                items = self._cluster.list(wanted.ref, label_selector=wanted.label_selector)
            except _REFUSED as error:
                self._ill(wanted, error)
                continue
            listed |= {item["metadata"]["uid"]: item for item in items}
            read.add(wanted.ref.namespace)
            self._well(wanted)
        for item in listed.values():
            self.put(item)
        with self._lock:
            # What was there before the list and is not in it is gone; what came since may be newer than the list.
            for uid, namespace in before.items():
                if uid not in listed and namespace in read:
                    self._forget(uid)

    def _forget(self, uid: str) -> None:
        self._found.pop(uid, None)
        self._gone[uid] = None
        while len(self._gone) > MOST_REMEMBERED_COUNT:
            del self._gone[next(iter(self._gone))]  # the oldest: a watch is behind by seconds, not by so many


def _version(found: Manifest) -> int:
    """Of one kind they are comparable numbers (KEP-5504)."""
    return int(found["metadata"].get("resourceVersion") or 0)


def by_label(objects: Iterable[Mapping[str, Any]], label: str) -> dict[str, list[Mapping[str, Any]]]:
    """`{value of the label: its objects}`; what does not carry it is left out."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in objects:
        if value := one["metadata"].get("labels", {}).get(label):
            found.setdefault(value, []).append(one)
    return found
