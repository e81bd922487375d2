"""What a watch told, and a list on request: neither ever puts an older state over a newer one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from helpers.ports.cluster import Manifest

_REMEMBERED_COUNT = 1000

T = TypeVar("T")


class WatchCache(Generic[T]):
    """One value for each object, by its uid. One thread may follow the watch while others list and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[int, T]] = {}
        # Deleted lately: a list that was answered before must not bring them back.
        self._gone: deque[str] = deque(maxlen=_REMEMBERED_COUNT)
        # Grows with every change, so that a reader knows whether what it made of the values still holds.
        self.changes_count = 0

    def put(self, item: Manifest, value: T) -> None:
        """As the watch tells of `item`."""
        with self._lock:
            self._take(item, value)

    def drop(self, item: Manifest) -> None:
        """The watch told that `item` is gone."""
        with self._lock:
            self._gone.append(_uid(item))
            if self._kept.pop(_uid(item), None) is not None:
                self.changes_count += 1

    def known(self) -> frozenset[str]:
        """The uids, to be given to `learn` with a list that is asked for after this call."""
        with self._lock:
            return frozenset(self._kept)

    def learn(self, before: frozenset[str], listed: Iterable[tuple[Manifest, T]]) -> None:
        """What a list shows. What the watch told of while it was answered stays; what it lacks of `before` goes."""
        with self._lock:
            missing = set(before)
            for item, value in listed:
                missing.discard(_uid(item))
                if _uid(item) not in self._gone:
                    self._take(item, value)
            for uid in missing:
                self._kept.pop(uid, None)
            self.changes_count += bool(missing)

    def values(self) -> tuple[T, ...]:
        """Every value."""
        with self._lock:
            return tuple(value for _, value in self._kept.values())

    def _take(self, item: Manifest, value: T) -> None:
        version = _version(item)
        known = self._kept.get(_uid(item))
        if known is None or known[0] <= version:
            self._kept[_uid(item)] = (version, value)
            self.changes_count += 1


def _uid(item: Manifest) -> str:
    return str(item["metadata"]["uid"])


def _version(item: Manifest) -> int:
    # A number that grows, by the API's own word since Kubernetes 1.35.
    text = str(item["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
