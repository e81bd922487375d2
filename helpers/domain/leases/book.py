"""The book of leases: who asked, who holds, who held. Frozen values; every change gives a new book.

A lease is `waiting`, then `granted`, then `ended`; or `waiting`, then `ended` (refused, or given up).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from helpers.domain.memory import Mib, PositiveMib


class End(StrEnum):
    """How a lease ended; a closed set, for metrics."""

    RELEASED = "released"
    EXPIRED = "expired"
    WINDOW = "window"
    REFUSED = "refused"
    """It waited as long as it said it would."""
    SILENT = "silent"
    """Whoever waited did not ask any more."""


class Holder(BaseModel):
    """Who asked: the name under which the caller is known, and its pod where it has one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    user: str
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""


class Lease(BaseModel):
    """One request and what became of it.

    Attributes:
        asked_at: When it was asked for; with `id` the order within a lane.
        seen_at: The last sign of life of its holder.
        used_mib: What its holder says it uses; None: it says nothing. The pod's measured use goes before it.
        base_mib: What its pod used on the card already when it was granted; None: no pod, or not measured.
        place: While waiting: 1 is the next one of its lane on that node.
        closes_at: Granted in a lane with windows: when it ends whatever its holder does.
        reason: Why it is what it is, for people.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    tenant: str
    lane: str
    mib: PositiveMib
    max_wait_seconds: float
    holder: Holder
    asked_at: AwareDatetime
    seen_at: AwareDatetime
    state: Literal["waiting", "granted", "ended"] = "waiting"
    place: int | None = None
    reason: str = "it was not looked at yet"
    node: str = ""
    gpu_index: int | None = None
    used_mib: Mib | None = None
    base_mib: Mib | None = None
    granted_at: AwareDatetime | None = None
    closes_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    end: End | None = None

    def gives_up_at(self) -> datetime:
        """When a waiting one is refused."""
        return self.asked_at + timedelta(seconds=self.max_wait_seconds)

    def same_wish(self, other: Lease) -> bool:
        """Whether `other` is the same request, asked once more."""
        mine = (self.tenant, self.lane, self.mib, self.max_wait_seconds, self.holder.user)
        return mine == (other.tenant, other.lane, other.mib, other.max_wait_seconds, other.holder.user)

    def ended(self, end: End, reason: str, at: datetime) -> Lease:
        """The same, ended."""
        return self.model_copy(update={"state": "ended", "end": end, "reason": reason, "ended_at": at, "place": None})


@dataclass(frozen=True)
class Book:
    """All leases, by id."""

    leases: Mapping[str, Lease] = field(default_factory=dict)

    def get(self, lease_id: str) -> Lease | None:
        """That lease, or None."""
        return self.leases.get(lease_id)

    def waiting(self) -> tuple[Lease, ...]:
        """Those that wait, the first who asked first."""
        return self._of("waiting")

    def granted(self) -> tuple[Lease, ...]:
        """Those that are held."""
        return self._of("granted")

    def ended(self) -> tuple[Lease, ...]:
        """Those that are over and still remembered."""
        return self._of("ended")

    def with_(self, changed: Iterable[Lease], dropped: Iterable[str] = ()) -> Book:
        """The book with `changed` put in and the ids `dropped` taken out."""
        gone = set(dropped)
        kept = {key: lease for key, lease in self.leases.items() if key not in gone}
        return Book(kept | {lease.id: lease for lease in changed})

    def seen(self, signs: Mapping[str, tuple[datetime, int | None]]) -> Book:
        """The book with `{id: (last sign of life, MiB that its holder says it uses)}` entered."""
        changed = []
        for key, (seen_at, used_mib) in signs.items():
            lease = self.leases.get(key)
            if lease is not None and lease.state != "ended" and seen_at > lease.seen_at:
                used = lease.used_mib if used_mib is None else used_mib
                changed.append(lease.model_copy(update={"seen_at": seen_at, "used_mib": used}))
        return self.with_(changed) if changed else self

    def leased_mib(self) -> dict[str, dict[str, int]]:
        """`{tenant: {lane: MiB}}` of all that is granted."""
        found: dict[str, dict[str, int]] = {}
        for lease in self.granted():
            lanes = found.setdefault(lease.tenant, {})
            lanes[lease.lane] = lanes.get(lease.lane, 0) + lease.mib
        return found

    def _of(self, state: str) -> tuple[Lease, ...]:
        found = [lease for lease in self.leases.values() if lease.state == state]
        return tuple(sorted(found, key=lambda lease: (lease.asked_at, lease.id)))
