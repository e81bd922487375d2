"""The leases' ports for tests: a store in memory that behaves like Redis's, callers, cards, and what was said."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from helpers.domain.errors import DependencyError
from helpers.domain.leases.book import Book, Holder, Lease
from helpers.domain.leases.facts import CardFacts, LaneUse
from helpers.domain.leases.settings import LeaseSettings
from helpers.ports.leases import Caller, StoredBook
from helpers.services.lease_events import LeaseEvents
from helpers.services.leases import LeaseKeeper, LeasePorts
from tests.fakes.lanes import EVENING
from tests.fakes.leases import LANES, card, lease_settings
from tests.fakes.outside import FakeEvents, FakeLeadership, FakeLog


class FakeStore:
    """`before_commit` runs just before a commit is looked at: another replica that was quicker."""

    def __init__(self) -> None:
        self.at = EVENING
        self.broken = ""
        self.book: dict[str, Lease] = {}
        self.signs: dict[str, tuple[datetime, int | None]] = {}
        self.number = 0
        self.before_commit: Any = lambda: None
        self._lock = threading.Lock()

    def read(self) -> StoredBook:
        self._answer()
        return StoredBook(str(self.number or ""), Book(dict(self.book)).seen(self.signs), self.at)

    def commit(self, version: str, changed: Iterable[Lease], dropped: Iterable[str] = ()) -> bool:
        self._answer()
        self.before_commit()
        with self._lock:
            if version != str(self.number or ""):
                return False
            self.book |= {lease.id: lease for lease in changed}
            for gone in dropped:
                del self.book[gone]
            self.number += 1
        return True

    def renew(self, lease_id: str, used_mib: int | None) -> bool:
        self._answer()
        if lease_id not in self.book:
            return False
        self.signs[lease_id] = (self.at, used_mib)
        return True

    def flush(self) -> None:
        self.book, self.signs, self.number = {}, {}, 0

    def pass_seconds(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def _answer(self) -> None:
        if self.broken:
            raise DependencyError(self.broken)


class FakeCallers:
    """`{token: user}`, and `{(user, verb, tenant)}` that is allowed."""

    def __init__(self) -> None:
        self.users = {"token-of-trainer": "trainer-sa", "token-of-nobody": "nobody-sa"}
        self.allowed = {("trainer-sa", verb, "trainer") for verb in ("create", "get", "list", "update", "delete")}
        self.broken = ""

    def caller(self, token: str) -> Caller | None:
        self._answer()
        user = self.users.get(token)
        return Caller(user, holder=Holder(user=user, namespace="train", pod="trainer-0")) if user else None

    def may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:
        self._answer()
        return (caller.user, verb, tenant) in self.allowed

    def _answer(self) -> None:
        if self.broken:
            raise DependencyError(self.broken)


class FakeCards:
    def __init__(self) -> None:
        self.cards: tuple[CardFacts, ...] = (card(7000),)

    def facts(self) -> Mapping[str, tuple[CardFacts, ...]]:
        return {"desk": self.cards}


class FakeLeaseMetrics:
    """What was counted."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    def shown(self, book: Book, overdue: Any, now_at: datetime) -> None:
        self.overdue = tuple(overdue)

    def granted(self, lease: Lease) -> None:
        self.counted.append(f"granted {lease.id}")

    def ended(self, lease: Lease, end: Any) -> None:
        self.counted.append(f"{end} {lease.id}")

    def lost(self, count: int) -> None:
        self.counted.append(f"lost {count}")

    def passed(self, at_seconds: float, answered: bool) -> None:
        self.answered = answered


class StoreClock:
    """The wall clock goes with the store's."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    def now_at(self) -> datetime:
        return self._store.at

    def monotonic_seconds(self) -> float:
        return (self._store.at - EVENING).total_seconds()

    def sleep_seconds(self, seconds: float) -> None:
        """Nothing: the test moves the time."""


class LeaseBench:
    """A keeper with all its fakes."""

    def __init__(self, *, is_leader: bool = True, store: FakeStore | None = None) -> None:
        self.store = store or FakeStore()
        self.cards, self.leadership, self.metrics = FakeCards(), FakeLeadership(), FakeLeaseMetrics()
        self.leadership.leading = is_leader
        self.events, self.log = FakeEvents(), FakeLog()
        self.uses: tuple[LaneUse, ...] | None = ()
        self.settings: LeaseSettings = lease_settings()
        ports = LeasePorts(
            store=self.store,
            cards=self.cards,
            lane_uses=lambda: self.uses,
            leadership=self.leadership,
            metrics=self.metrics,
            events=LeaseEvents(self.events),
            clock=StoreClock(self.store),
            log=self.log,
        )
        self.keeper = LeaseKeeper(ports, self.settings, LANES)
