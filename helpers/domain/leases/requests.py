"""What is asked for: checked before it may wait, so that nothing waits that can never be granted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from helpers.domain.errors import InputError, Problem
from helpers.domain.lanes.settings import LaneRule
from helpers.domain.leases.book import Book, Lease
from helpers.domain.leases.decision import lane_of
from helpers.domain.leases.settings import HolderRule, LeaseSettings
from helpers.domain.memory import Mib, PositiveMib

LeaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{7,62}$")]


# A tenant that asks without end must not fill the store.
MOST_WAITING_COUNT = 1000


class LeaseRefused(InputError):
    """A request that cannot be taken as it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.path} = {problem.value}: {problem.rule}; {problem.repair}")
        self.problem = problem


class LeaseRequest(BaseModel):
    """The body of `POST /v1/leases`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tenant: str
    mib: PositiveMib
    lane: str
    max_wait_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    request_id: LeaseId | None = None
    """The caller's own name of the request, 8 to 63 letters, digits, `-`, `_`, `.`: asked twice, it is one lease."""


class Renewal(BaseModel):
    """The body of `PUT /v1/leases/<id>`; may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    used_mib: Mib | None = None
    """What the holder uses of it, where nobody measures its pod."""


def request_problem(settings: LeaseSettings, lanes: Sequence[LaneRule], request: LeaseRequest) -> Problem | None:
    """Why `request` can never be granted; None where it can."""
    holder = settings.holder(request.tenant)
    if holder is None:
        return _unknown(
            "tenant", request.tenant, (one.tenant for one in settings.holders), "tenant that may hold leases"
        )
    own = [rule.name for rule in lanes if rule.lane.tenant == request.tenant]
    if request.lane not in own:
        what = f"lane of tenant {request.tenant}"
        if lane_of(lanes, request.lane) is not None:
            rule = (
                f"a lease is in a lane of its tenant; this one is another tenant's. {request.tenant} has: {_list(own)}"
            )
            return Problem("lane", request.lane, rule, f"use one of {_list(own)}, or declare another lane")
        return _unknown("lane", request.lane, own, what)
    if request.max_wait_seconds > settings.longest_wait_seconds:
        rule = f"a request waits {settings.longest_wait_seconds} s at most (coordinator.leases.longest_wait_seconds)"
        return Problem("max_wait_seconds", f"{request.max_wait_seconds:g}", rule, "wait less, and ask again afterwards")
    return _too_large(settings, holder, request)


def other_wish(known: Lease, wish: Lease) -> Problem | None:
    """Why `wish` cannot have the id that `known` has; None: it is the same request, asked once more."""
    if known.same_wish(wish):
        return None
    rule = "a request_id is one request's for ever, and another one has it"
    return Problem("request_id", wish.id, rule, "give this request another id, or leave it out")


def too_many(book: Book, wish: Lease) -> Problem | None:
    """Why `wish` may not wait beside those of its tenant that do; None: it may."""
    if sum(lease.tenant == wish.tenant for lease in book.waiting()) < MOST_WAITING_COUNT:
        return None
    rule = f"at most {MOST_WAITING_COUNT} requests of a tenant wait"
    return Problem("tenant", wish.tenant, rule, "wait until some of them were granted or refused")


def _too_large(settings: LeaseSettings, holder: HolderRule, request: LeaseRequest) -> Problem | None:
    if request.mib > holder.room_mib:
        rule = f"a tenant's leases are within its budget, and {holder.tenant} has {holder.room_mib} MiB in all"
        return Problem("mib", str(request.mib), rule, f"ask for {holder.room_mib} or less, or raise its budget_mib")
    node = settings.node(holder.node)
    most_mib = max(
        card.advertised_mib - sum(mib for tenant, mib in card.promised_mib.items() if tenant != holder.tenant)
        for card in node.cards
    )
    if request.mib > most_mib:
        rule = (
            f"a lease is on one card, and on {node.node} no card has more than {most_mib} MiB beside what is promised"
        )
        return Problem("mib", str(request.mib), rule, f"ask for {most_mib} or less, or promise less to others")
    return None


def _unknown(place: str, value: str, known: Iterable[str], what: str) -> Problem:
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    return Problem(
        place,
        value,
        f"{place} is the name of a {what}",
        f'did you mean "{close[0]}"?' if close else f"known: {_list(names)}",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
