"""Whether a demand gate is open, and what follows for its workload and its lease. Pure.

Opening needs everything at once: a window, a use, memory that has been free for a while, and the
lease of it. Closing needs one thing that has gone on long enough; the end of a window and a lost
lease need no waiting. What is unknown neither opens a gate nor closes one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from helpers.domain.demand_gates.facts import GateFacts, GateTimers, WorkloadFacts
from helpers.domain.demand_gates.rules import GateRule

# A lease that was running out is renewed or asked for again before its workload is taken away.
UNLEASED_SECONDS = 30.0
# Longer than the exporter needs to show memory that a pod has left.
FREED_SECONDS = 20.0

LeaseWish = Literal["none", "take", "keep", "give_back"]


class GateReason(StrEnum):
    """Why a gate is open or closed; a closed set, for metrics."""

    OPEN = "open"
    RELEASED = "released"
    MISSING = "missing"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    WINDOW = "window"
    NO_DEMAND = "no_demand"
    ENDING = "ending"
    MEMORY = "memory"
    SETTLING = "settling"
    LEASE = "lease"


@dataclass(frozen=True)
class GateVerdict:
    """What a look at the gate came to.

    `act`: scale to 1 (open) or to 0 (close); None: nothing. `lease`: take (or go on waiting for) it,
    keep it, give it back. `change_at`: when its window changes next.
    """

    gate: str
    open: bool
    reason: GateReason
    text: str
    act: Literal["open", "close"] | None = None
    lease: LeaseWish = "none"
    change_at: datetime | None = None


def decide(rule: GateRule, facts: GateFacts, timers: GateTimers) -> tuple[GateVerdict, GateTimers]:
    """The verdict, and the timers for the next look."""
    timers = _timed(rule, facts, timers)
    workload = facts.workload
    if workload is not None and not workload.released and workload.replicas == 1:
        verdict = _while_running(rule, facts, timers)
        return verdict, replace(timers, taking=False, freeing_mib=facts.free_mib if verdict.act == "close" else None)
    verdict = _not_ours(rule, facts, timers) if _is_not_ours(workload) else _while_closed(rule, facts, timers)
    taking = verdict.act == "open" or (verdict.reason is GateReason.LEASE and verdict.lease == "take")
    return verdict, replace(timers, taking=taking)


def _is_not_ours(workload: WorkloadFacts | None) -> bool:
    return workload is None or workload.released or workload.replicas > 1


def _not_ours(rule: GateRule, facts: GateFacts, timers: GateTimers) -> GateVerdict:
    workload = facts.workload
    if workload is None:
        text = f"{rule.workload.kind} {rule.workload.namespace}/{rule.workload.workload} is not there"
        return _verdict(rule, facts, False, GateReason.MISSING, text, lease=_after(facts, timers))
    if workload.released:
        text = "released by a person; `gpumem restore` gives it back to the gate"
        return _verdict(rule, facts, False, GateReason.RELEASED, text, lease=_after(facts, timers))
    text = f"somebody scaled it to {workload.replicas}; a gate knows 0 and 1, and leaves it alone"
    return _verdict(rule, facts, True, GateReason.FOREIGN, text, lease="keep")


def _while_running(rule: GateRule, facts: GateFacts, timers: GateTimers) -> GateVerdict:
    gate = rule.gate

    def close(reason: GateReason, text: str) -> GateVerdict:
        return _verdict(rule, facts, False, reason, text, act="close", lease="keep")

    if not rule.may_run(facts.now_at):
        return close(GateReason.WINDOW, "its window has ended")
    if facts.lease is not None and _lasts(facts, timers.unleased_seconds, UNLEASED_SECONDS):
        return close(GateReason.LEASE, f"it runs without the lease of {rule.need_mib} MiB")
    if facts.free_mib is not None and _lasts(facts, timers.short_seconds, gate.close_after_seconds):
        text = f"{facts.free_mib} MiB free, under {rule.close_free_mib} for {gate.close_after_seconds:g} s"
        return close(GateReason.MEMORY, text)
    if facts.demand_count == 0 and _lasts(facts, timers.idle_seconds, gate.close_after_seconds):
        return close(GateReason.NO_DEMAND, f"no job of {rule.jobs_lane} for {gate.close_after_seconds:g} s")
    lease: LeaseWish = "keep" if facts.lease == "granted" else "take"
    return _verdict(rule, facts, True, GateReason.OPEN, "there is room and a use for it", lease=lease)


def _while_closed(rule: GateRule, facts: GateFacts, timers: GateTimers) -> GateVerdict:
    why = _why_not(rule, facts, timers)
    if why is not None:
        # The lease that was asked for is no longer wanted, or its memory is still being freed.
        return _verdict(rule, facts, False, *why, lease=_after(facts, timers))
    if facts.lease != "granted":
        text = f"{rule.need_mib} MiB are free, and their lease is waited for"
        return _verdict(rule, facts, False, GateReason.LEASE, text, lease="take")
    text = f"{facts.free_mib} MiB free, {rule.need_mib} of them leased to it"
    return _verdict(rule, facts, True, GateReason.OPEN, text, act="open", lease="keep")


def _why_not(rule: GateRule, facts: GateFacts, timers: GateTimers) -> tuple[GateReason, str] | None:
    if not rule.may_run(facts.now_at):
        change_at = rule.next_change_at(facts.now_at)
        until = f" until {change_at.isoformat(timespec='seconds')}" if change_at else ""
        return GateReason.WINDOW, f"outside its windows{until}"
    if timers.gone_seconds is None:
        return GateReason.ENDING, "its last pod has not gone"
    if facts.lease == "granted" and not timers.taking:
        return GateReason.ENDING, "the memory of its last pod is not seen to be free"
    return _no_use(rule, facts) or _no_room(rule, facts, timers)


def _no_use(rule: GateRule, facts: GateFacts) -> tuple[GateReason, str] | None:
    if facts.demand_count is None:
        return GateReason.UNKNOWN, f"it is not known whether lane {rule.jobs_lane} has jobs"
    if not facts.demand_count:
        return GateReason.NO_DEMAND, f"lane {rule.jobs_lane} has no job that may run"
    return None


def _no_room(rule: GateRule, facts: GateFacts, timers: GateTimers) -> tuple[GateReason, str] | None:
    room_mib = facts.room_mib
    if room_mib is None:
        return GateReason.UNKNOWN, "the free memory is not known"
    taken = f" less {facts.to_come_mib} that other gates were granted" if facts.to_come_mib else ""
    if facts.lease == "granted":
        # Whoever granted it counted the margin; what it needs itself must still be there.
        text = f"{facts.free_mib} MiB free{taken}, {rule.need_mib} are needed"
        return (GateReason.MEMORY, text) if room_mib < rule.need_mib else None
    if facts.lease is None:
        return GateReason.UNKNOWN, "the book of leases does not answer"
    if room_mib < rule.opens_at_mib:
        text = f"{facts.free_mib} MiB free{taken}, {rule.need_mib} and {rule.margin_mib} above it are needed"
        return GateReason.MEMORY, text
    least_seconds = rule.gate.open_after_seconds
    if not _lasts(facts, timers.roomy_seconds, least_seconds):
        return GateReason.SETTLING, f"there is room, not yet for {least_seconds:g} s"
    return None


def _timed(rule: GateRule, facts: GateFacts, timers: GateTimers) -> GateTimers:
    """An unknown keeps a timer that runs, so that one silent look starts nothing afresh."""
    workload, free, room = facts.workload, facts.free_mib, facts.room_mib
    runs = workload is not None and workload.replicas > 0
    gone = workload is None or (workload.replicas == 0 and workload.pods_count == 0)

    def since(before: float | None, is_so: bool | None) -> float | None:
        if is_so is None:
            return before
        if not is_so:
            return None
        return facts.now_seconds if before is None else before

    return GateTimers(
        roomy_seconds=since(timers.roomy_seconds, None if room is None else not runs and room >= rule.opens_at_mib),
        short_seconds=since(timers.short_seconds, None if free is None else runs and free < rule.close_free_mib),
        idle_seconds=since(
            timers.idle_seconds, None if facts.demand_count is None else runs and not facts.demand_count
        ),
        unleased_seconds=since(
            timers.unleased_seconds, None if facts.lease is None else runs and facts.lease != "granted"
        ),
        gone_seconds=since(timers.gone_seconds, gone),
        freeing_mib=timers.freeing_mib,
        taking=timers.taking,
    )


def _after(facts: GateFacts, timers: GateTimers) -> LeaseWish:
    """The lease of a closed gate goes back when its pods are gone and the card shows it."""
    if facts.lease is None or facts.lease == "none":
        return "none"
    if facts.lease == "queued":
        return "give_back"
    if timers.gone_seconds is None:
        return "keep"
    if _lasts(facts, timers.gone_seconds, FREED_SECONDS):
        return "give_back"  # somebody else may have taken the memory at once: then it never shows
    if facts.free_mib is None or timers.freeing_mib is None:
        return "keep"
    return "give_back" if facts.free_mib > timers.freeing_mib else "keep"


def _lasts(facts: GateFacts, since_seconds: float | None, least_seconds: float) -> bool:
    return since_seconds is not None and facts.now_seconds - since_seconds >= least_seconds


def _verdict(
    rule: GateRule,
    facts: GateFacts,
    is_open: bool,
    reason: GateReason,
    text: str,
    *,
    act: Literal["open", "close"] | None = None,
    lease: LeaseWish = "none",
) -> GateVerdict:
    return GateVerdict(rule.name, is_open, reason, text, act, lease, rule.next_change_at(facts.now_at))
