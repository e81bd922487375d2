"""What is over its time: leases whose memory is still held, and requests that wait longer than they said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from helpers.domain.leases.book import Book
from helpers.domain.leases.decision import still_held_mib
from helpers.domain.leases.facts import LeaseSituation

Cause = Literal["held", "waiting"]
CAUSES: tuple[Cause, ...] = ("held", "waiting")


@dataclass(frozen=True)
class Overdue:
    """One lease over its time for `seconds`. `held_mib`: what its pod still has of it."""

    lease_id: str
    tenant: str
    lane: str
    cause: Cause
    seconds: float
    held_mib: int = 0


def overdue(book: Book, now: LeaseSituation) -> tuple[Overdue, ...]:
    """All that are, the longest first."""
    found = []
    for lease in book.ended():
        held_mib = still_held_mib(lease, book, now)
        if held_mib and lease.ended_at is not None:
            seconds = (now.now_at - lease.ended_at).total_seconds()
            found.append(Overdue(lease.id, lease.tenant, lease.lane, "held", seconds, held_mib))
    for lease in book.waiting():
        seconds = (now.now_at - lease.gives_up_at()).total_seconds()
        if seconds > 0:
            found.append(Overdue(lease.id, lease.tenant, lease.lane, "waiting", seconds))
    return tuple(sorted(found, key=lambda one: (-one.seconds, one.lease_id)))
