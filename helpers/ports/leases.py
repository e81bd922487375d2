"""Where leases stand, who asks for them, and what is counted about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from helpers.domain.leases.book import Book, End, Holder, Lease
from helpers.domain.leases.facts import CardFacts
from helpers.domain.leases.overdue import Overdue


@dataclass(frozen=True)
class StoredBook:
    """The book at one instant of the store's own clock. `version`: which state of it that is; empty: none yet."""

    version: str
    book: Book
    now_at: datetime


class LeaseStore(Protocol):
    """One book for all replicas. Everything here raises DependencyError where the store does not answer."""

    def read(self) -> StoredBook:
        """The book with every sign of life in it."""
        ...

    def commit(self, version: str, changed: Iterable[Lease], dropped: Iterable[str] = ()) -> bool:
        """Writes all of it, or (False) nothing: the book is not in that `version` any more."""
        ...

    def renew(self, lease_id: str, used_mib: int | None) -> bool:
        """Notes a sign of life; False: no such lease is there."""
        ...


class Cards(Protocol):
    """The cards as they were measured last."""

    def facts(self) -> Mapping[str, tuple[CardFacts, ...]]:
        """`{node: its cards}`; what is too old is unknown."""
        ...


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as the authority over its token knows it."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    holder: Holder = field(default_factory=lambda: Holder(user=""))


class Callers(Protocol):
    """Whose token it is, and what its owner may do. Raises DependencyError where that cannot be found out."""

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""
        ...

    def may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:
        """Whether `caller` may `verb` leases of `tenant`, whose workload is in `namespace`."""
        ...


class LeaseMetrics(Protocol):
    """What is counted."""

    def shown(self, book: Book, overdue: Sequence[Overdue], now_at: datetime) -> None:
        """The book as it was read, and what is over its time."""
        ...

    def granted(self, lease: Lease) -> None:
        """One was granted, after its wait."""
        ...

    def ended(self, lease: Lease, end: End) -> None:
        """One is over."""
        ...

    def lost(self, count: int) -> None:
        """So many were gone from the store."""
        ...

    def passed(self, at_seconds: float, answered: bool) -> None:
        """The leader finished a pass; whether the store answered. `at_seconds`: since the epoch."""
        ...
