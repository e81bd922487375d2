"""Who gets a lease now, who loses it, who waits, and why. Pure; a second run on the result changes nothing.

The order: realtime lanes, then by priority, then who asked first. Within a lane nobody overtakes, however
small. Whoever waits for memory that others hold also keeps back all that come after it on that node, and
whoever waits for its tenant's budget those of its tenant: otherwise many small ones would starve a large one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from helpers.domain.lanes.settings import LaneRule
from helpers.domain.lanes.windows import is_open, next_change_at
from helpers.domain.leases.book import Book, End, Lease
from helpers.domain.leases.facts import LeaseSituation, held_mib
from helpers.domain.leases.room import NoRoom, Rooms
from helpers.domain.leases.settings import LeaseSettings

# How long an ended lease is remembered, so that its holder is told why.
REMEMBERED = timedelta(seconds=600)
# What a process keeps of the card as long as it lives, whatever it frees: contexts and libraries.
CONTEXT_MIB = 512


@dataclass(frozen=True)
class Grant:
    """`lease` is held from now on."""

    lease: Lease


@dataclass(frozen=True)
class Finish:
    """`lease` is over; `lease.end` says how."""

    lease: Lease


@dataclass(frozen=True)
class Wait:
    """`lease` goes on waiting, with another place or for another reason than before."""

    lease: Lease


@dataclass(frozen=True)
class Forget:
    """`lease` was over long enough."""

    lease: Lease


Decision = Grant | Finish | Wait | Forget


def decide(settings: LeaseSettings, lanes: Sequence[LaneRule], book: Book, now: LeaseSituation) -> tuple[Decision, ...]:
    """What changes in `book` now; what does not change is not named."""
    over = tuple(_over(settings, lanes, book, now))
    left = book.with_(finish.lease for finish in over)
    old = tuple(Forget(lease) for lease in book.ended() if _may_be_forgotten(lease, book, now))
    return (*over, *_served(settings, lanes, left, now), *old)


def after(book: Book, decisions: Sequence[Decision]) -> Book:
    """The book once `decisions` hold."""
    dropped = [one.lease.id for one in decisions if isinstance(one, Forget)]
    return book.with_((one.lease for one in decisions if not isinstance(one, Forget)), dropped)


def lane_of(lanes: Sequence[LaneRule], name: str) -> LaneRule | None:
    """The lane of that name, or None."""
    return next((rule for rule in lanes if rule.name == name), None)


def still_held_mib(lease: Lease, book: Book, now: LeaseSituation) -> int:
    """MiB of an ended lease that its pod measurably still has, beyond its contexts and what it leases otherwise."""
    if lease.state != "ended" or lease.gpu_index is None:
        return 0
    held = held_mib(lease, now.card(lease.node, lease.gpu_index))
    if held is None:
        return 0
    pod = (lease.holder.namespace, lease.holder.pod, lease.node, lease.gpu_index)
    others_mib = sum(
        other.mib
        for other in book.granted()
        if (other.holder.namespace, other.holder.pod, other.node, other.gpu_index) == pod
    )
    return max(0, min(lease.mib, held - others_mib) - CONTEXT_MIB)


def _over(settings: LeaseSettings, lanes: Sequence[LaneRule], book: Book, now: LeaseSituation) -> Iterator[Finish]:
    ttl = timedelta(seconds=settings.ttl_seconds)
    for lease in (*book.granted(), *book.waiting()):
        rule = lane_of(lanes, lease.lane)
        if rule is None or settings.holder(lease.tenant) is None:
            end, why = End.REFUSED, f"the estate has no lane {lease.lane} for tenant {lease.tenant} any more"
        elif now.now_at - lease.seen_at > ttl and lease.state == "granted":
            end, why = End.EXPIRED, f"it was not renewed for {settings.ttl_seconds:g} s: its holder counts as dead"
        elif now.now_at - lease.seen_at > ttl:
            end, why = End.SILENT, f"its holder has not asked for {settings.ttl_seconds:g} s"
        elif lease.state == "granted" and not is_open(rule.lane.windows, now.wall_at):
            end, why = End.WINDOW, f"{_closed(rule, now)}, and its leases end with them"
        else:
            continue
        yield Finish(lease.ended(end, why, now.now_at))


@dataclass
class _Row:
    """Who waits so far, while the waiting are served one after the other."""

    places: dict[tuple[str, str], int] = field(default_factory=dict)
    first: dict[str, Lease] = field(default_factory=dict)
    """`{node: the first that waits for memory there}`."""
    first_of_tenant: dict[str, Lease] = field(default_factory=dict)
    """`{tenant: the first that waits for its budget}`."""


def _served(settings: LeaseSettings, lanes: Sequence[LaneRule], book: Book, now: LeaseSituation) -> Iterator[Decision]:
    rooms, row = Rooms(settings, book.granted(), now), _Row()
    rules = {rule.name: rule for rule in lanes}
    for lease in sorted(book.waiting(), key=lambda one: (*rules[one.lane].rank[:2], one.asked_at, one.id)):
        verdict = _judge(settings, rules[lease.lane], lease, rooms, row, now)
        if isinstance(verdict, Grant):
            rooms.take(verdict.lease)
            yield verdict
        elif now.now_at >= lease.gives_up_at():
            waited = f"it waited {lease.max_wait_seconds:g} s, as long as it said it would"
            reason = f"{waited}; {verdict.reason}" if lease.max_wait_seconds else verdict.reason
            yield Finish(lease.ended(End.REFUSED, reason, now.now_at))
        else:
            key = (lease.lane, verdict.node)
            place = row.places[key] = row.places.get(key, 0) + 1
            if verdict.cause == "memory":
                row.first.setdefault(verdict.node, lease)
            elif verdict.cause == "budget":
                row.first_of_tenant.setdefault(lease.tenant, lease)
            if (place, verdict.reason) != (lease.place, lease.reason):
                yield Wait(lease.model_copy(update={"place": place, "reason": verdict.reason}))


@dataclass(frozen=True)
class _No:
    node: str
    reason: str
    cause: str = ""


def _judge(
    settings: LeaseSettings, rule: LaneRule, lease: Lease, rooms: Rooms, row: _Row, now: LeaseSituation
) -> Grant | _No:
    holder = settings.holder(lease.tenant)
    if holder is None:
        raise KeyError(lease.tenant)  # such leases were ended before
    node = holder.node
    if not rule.may_run(now.wall_at):
        return _No(node, _closed(rule, now))
    if (rule.name, node) in row.places:
        return _No(node, f"others of lane {rule.name} asked before it, and nobody overtakes within a lane")
    first = row.first.get(node) or row.first_of_tenant.get(lease.tenant)
    if first is not None:
        return _No(node, f"{first.mib} MiB for tenant {first.tenant} in lane {first.lane} are waited for, and go first")
    found = rooms.fit(lease, holder)
    if isinstance(found, NoRoom):
        return _No(node, found.text, found.cause)
    card, pod = found.card, (lease.holder.namespace, lease.holder.pod)
    return Grant(
        lease.model_copy(
            update={
                "state": "granted",
                "place": None,
                "reason": f"{lease.mib} MiB fit on {card.card}, and {found.left_mib} MiB are left",
                "node": node,
                "gpu_index": card.gpu_index,
                "base_mib": card.pods_mib.get(pod, 0) if lease.holder.pod else None,
                "granted_at": now.now_at,
                "seen_at": now.now_at,
                "closes_at": next_change_at(rule.lane.windows, now.wall_at),
            }
        )
    )


def _closed(rule: LaneRule, now: LeaseSituation) -> str:
    change_at = rule.next_change_at(now.wall_at)
    until = f" until {change_at.isoformat(timespec='seconds')}" if change_at else ""
    return f"lane {rule.name} is outside its windows{until}"


def _may_be_forgotten(lease: Lease, book: Book, now: LeaseSituation) -> bool:
    is_old = lease.ended_at is not None and now.now_at - lease.ended_at > REMEMBERED
    return is_old and not still_held_mib(lease, book, now)
