"""What to do with each queue now: pause, resume, or nothing, and why. Pure; a second run changes nothing.

First each lane is judged (open or closed), then each of its queues is brought there. Only what a
coordinator paused is resumed: a queue that is paused without our mark was paused by somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from helpers.domain.lanes.clients import ClientName, Refusal, client_for
from helpers.domain.lanes.facts import QueueFacts, Situation
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule

# A pause that was sent and never answered may still arrive; its mark is kept at least this long.
UNANSWERED = timedelta(seconds=60)


class LaneReason(StrEnum):
    """Why a lane is open or closed; a closed set, for metrics."""

    OPEN = "open"
    WINDOW = "window"
    AWAY = "gpu_away"
    YIELDS = "yields"
    MEMORY = "memory"


@dataclass(frozen=True)
class LaneVerdict:
    """Whether the lane may run now. `text` is for people; `change_at` is when its window changes next."""

    lane: str
    open: bool
    reason: LaneReason
    text: str
    waiting_count: int = 0
    active_count: int = 0
    change_at: datetime | None = None
    settled_at_seconds: float | None = None
    """When it will have settled, on the monotonic clock, where only that keeps it closed."""


@dataclass(frozen=True)
class Pause:
    """Pause `queue` with that client, having written the mark."""

    queue: str
    lane: str
    client: ClientName
    reason: LaneReason
    text: str


@dataclass(frozen=True)
class Resume:
    """Resume `queue` with that client, then take the mark away."""

    queue: str
    lane: str
    client: ClientName
    text: str


@dataclass(frozen=True)
class Forget:
    """The queue is not paused any more though we did not resume it: take the mark away."""

    queue: str
    lane: str
    text: str


@dataclass(frozen=True)
class Refuse:
    """Something should be done and may not."""

    queue: str
    lane: str
    text: str


@dataclass(frozen=True)
class NoAction:
    """The queue is as it should be, or is not ours to change (`foreign`)."""

    queue: str
    lane: str
    text: str
    foreign: bool = False


Decision = Pause | Resume | Forget | Refuse | NoAction


def decide(settings: CoordinatorSettings, now: Situation) -> tuple[tuple[LaneVerdict, ...], tuple[Decision, ...]]:
    """Every lane's verdict and every queue's decision, in the lanes' order."""
    verdicts = judge_lanes(settings, now)
    decisions: list[Decision] = []
    for rule, verdict in zip(settings.lanes, verdicts, strict=True):
        for queue in rule.lane.queues:
            facts = now.queues.get(queue)
            if facts is not None and rule.is_batch:
                decisions.append(_decide_queue(rule, verdict, facts, now.now_at))
    return verdicts, tuple(decisions)


def judge_lanes(settings: CoordinatorSettings, now: Situation) -> tuple[LaneVerdict, ...]:
    """One verdict a lane, in the settings' order."""
    return tuple(_judge(settings, rule, now) for rule in settings.lanes)


def _judge(settings: CoordinatorSettings, rule: LaneRule, now: Situation) -> LaneVerdict:
    facts = facts_of(rule, now)
    waiting, active = sum(f.waiting_count for f in facts), sum(f.active_count for f in facts)
    change_at = rule.next_change_at(now.now_at)

    def verdict(is_free: bool, reason: LaneReason, text: str, settled: float | None = None) -> LaneVerdict:
        return LaneVerdict(rule.name, is_free, reason, text, waiting, active, change_at, settled)

    away = now.away.get(rule.lane.tenant)
    if away is not None:
        return verdict(False, LaneReason.AWAY, away)
    if not rule.is_batch:
        return verdict(True, LaneReason.OPEN, "realtime is never paused")
    if not rule.may_run(now.now_at):
        until = f" until {change_at.isoformat(timespec='seconds')}" if change_at else ""
        return verdict(False, LaneReason.WINDOW, f"outside its windows{until}")
    claims = list(_claims(settings, rule, now))
    taken_mib = sum(claim.need_mib for claim in claims)
    need_mib = lane_need_mib(rule, now)
    if claims and taken_mib + need_mib > rule.room_mib:
        text = f"{', '.join(claim.text for claim in claims)}; {taken_mib} + {need_mib} > {rule.room_mib} MiB"
        ends = [claim.settled_at_seconds for claim in claims]
        settled = None if any(end is None for end in ends) else max(end for end in ends if end is not None)
        return verdict(False, LaneReason.YIELDS, text, settled)
    if rule.name in now.held:
        return verdict(False, LaneReason.MEMORY, now.held[rule.name])
    return verdict(True, LaneReason.OPEN, "nobody before it is busy")


@dataclass(frozen=True)
class _Claim:
    """Memory of the tenant that another lane has or is about to take."""

    text: str
    need_mib: int
    settled_at_seconds: float | None = None


def _claims(settings: CoordinatorSettings, rule: LaneRule, now: Situation) -> Iterator[_Claim]:
    """What keeps `rule` out: leases, lanes before it that are busy, ask, or have not settled; any that still runs."""
    leased_mib = sum(now.leased_mib.get(rule.lane.tenant, {}).values())
    if leased_mib:
        yield _Claim("leases are held", leased_mib)
    for other in settings.lanes:
        if other.name == rule.name or other.lane.tenant != rule.lane.tenant:
            continue
        facts, need_mib = facts_of(other, now), lane_need_mib(other, now)
        active = sum(one.active_count for one in facts)
        if active:  # pausing stops no job that runs: its memory counts until it ends
            yield _Claim(f"{other.name} has {active} active", need_mib)
        elif other.rank > rule.rank:
            continue
        elif asking := _asking_count(other, facts, now):
            yield _Claim(f"{other.name} has {asking} waiting", need_mib)
        elif (busy := now.busy_seconds.get(other.name)) is not None:
            settled_at_seconds = busy + rule.lane.settle_seconds
            if now.now_seconds < settled_at_seconds:
                yield _Claim(f"{other.name} was busy a moment ago", need_mib, settled_at_seconds)


def demands(settings: CoordinatorSettings, now: Situation, verdicts: Sequence[LaneVerdict]) -> dict[str, int]:
    """`{lane: jobs}` that run, or would if the lane's tenant were there and had its memory.

    Jobs that a window, a lane before theirs or somebody's pause keeps back are no demand: nobody has to
    start anything for them. A lane with a queue that was not read is absent.
    """
    found: dict[str, int] = {}
    for rule, verdict in zip(settings.lanes, verdicts, strict=True):
        facts = facts_of(rule, now)
        if len(facts) < len(rule.lane.queues):
            continue
        waits_for_its_tenant = verdict.open or verdict.reason in (LaneReason.AWAY, LaneReason.MEMORY)
        could = waits_for_its_tenant and rule.may_run(now.now_at)
        waiting = sum(one.waiting_count for one in facts if not one.paused or one.mark is not None)
        found[rule.name] = sum(one.active_count for one in facts) + (waiting if could else 0)
    return found


def is_busy(rule: LaneRule, now: Situation) -> bool:
    """Whether the lane runs jobs, has some that could run now, or leases of it are held."""
    if rule.name in now.leased_mib.get(rule.lane.tenant, {}):
        return True
    facts = facts_of(rule, now)
    return any(one.active_count for one in facts) or _asking_count(rule, facts, now) > 0


def _asking_count(rule: LaneRule, facts: Sequence[QueueFacts], now: Situation) -> int:
    """Jobs that would run if their lane were let: not those that a window, or somebody's pause, keeps back."""
    if rule.lane.tenant in now.away or not rule.may_run(now.now_at):
        return 0
    return sum(one.waiting_count for one in facts if not one.paused or one.mark is not None)


def lane_need_mib(rule: LaneRule, now: Situation) -> int:
    """What one job of the lane takes, as measured where that is known."""
    return now.measured_mib.get(rule.lane.model or "", rule.need_mib)


def facts_of(rule: LaneRule, now: Situation) -> tuple[QueueFacts, ...]:
    """The lane's queues, those that were read."""
    return tuple(now.queues[queue] for queue in rule.lane.queues if queue in now.queues)


def client_of(rule: LaneRule, facts: QueueFacts) -> ClientName | Refusal:
    """The client for a queue of that lane."""
    return "immich" if rule.lane.pause == "immich" else client_for(facts, rule.lane.bullmq_major)


def _decide_queue(rule: LaneRule, verdict: LaneVerdict, facts: QueueFacts, now_at: datetime) -> Decision:
    queue, lane, mark = facts.queue, rule.name, facts.mark
    if facts.paused and mark is None:
        return NoAction(queue, lane, "paused by somebody else, and left to them", foreign=True)
    if verdict.open and not facts.paused:
        if mark is not None and (mark.confirmed or now_at - mark.since_at > UNANSWERED):
            return Forget(queue, lane, "somebody else resumed it")
        return NoAction(queue, lane, verdict.text)
    if not verdict.open and facts.paused:
        return NoAction(queue, lane, verdict.text)
    if facts.is_blank and not facts.paused and rule.lane.bullmq_major is None:
        return NoAction(queue, lane, "nobody has used this queue yet")
    client = client_of(rule, facts)
    if isinstance(client, Refusal):
        return Refuse(queue, lane, client.why)
    if verdict.open:
        return Resume(queue, lane, client, verdict.text)
    return Pause(queue, lane, client, verdict.reason, verdict.text)
