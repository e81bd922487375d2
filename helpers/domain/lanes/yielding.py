"""Which batch lanes are asked to yield: once a burst of realtime work, and only what pausing does not stop. Pure.

A burst begins when a realtime lane of the tenant is busy, and has ended when none has been for the batch
lane's settling time. Whatever the answer is, realtime waits for the jobs that still run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from helpers.domain.lanes.decision import facts_of, is_busy, lane_need_mib
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule


@dataclass(frozen=True)
class AskToYield:
    """Ask `tenant` by its release hook to give up what `active_count` jobs of `lane` hold. `text` is for people."""

    lane: str
    tenant: str
    active_count: int
    text: str


def asks_to_yield(
    settings: CoordinatorSettings, now: Situation, asked: frozenset[str]
) -> tuple[tuple[AskToYield, ...], frozenset[str]]:
    """Whom to ask now, and `asked` for the next time: the lanes that were asked in a burst that goes on."""
    asks: list[AskToYield] = []
    remembered: set[str] = set()
    for rule in settings.lanes:
        if rule.lane.on_realtime != "yield":
            continue
        if rule.name in asked:
            if _burst_goes_on(settings, rule, now):
                remembered.add(rule.name)
            continue
        ask = _ask(settings, rule, now)
        if ask is not None:
            asks.append(ask)
            remembered.add(rule.name)
    return tuple(asks), frozenset(remembered)


def _ask(settings: CoordinatorSettings, rule: LaneRule, now: Situation) -> AskToYield | None:
    working = [one for one in facts_of(rule, now) if one.active_count]
    # Before the pause others would begin in the place of those that yield; in a dry run it never comes.
    paused = settings.dry_run or all(one.paused for one in working)
    if not working or not paused or rule.lane.tenant in now.away:
        return None
    busy = [other for other in _realtime(settings, rule) if is_busy(other, now)]
    taken_mib = sum(lane_need_mib(other, now) for other in busy)
    if not busy or taken_mib + lane_need_mib(rule, now) <= rule.room_mib:
        return None
    active_count = sum(one.active_count for one in working)
    names = ", ".join(other.name for other in busy)
    return AskToYield(rule.name, rule.lane.tenant, active_count, f"{names} waits for {active_count} of {rule.name}")


def _burst_goes_on(settings: CoordinatorSettings, rule: LaneRule, now: Situation) -> bool:
    for other in _realtime(settings, rule):
        last_seconds = now.busy_seconds.get(other.name)
        if is_busy(other, now) or (
            last_seconds is not None and now.now_seconds < last_seconds + rule.lane.settle_seconds
        ):
            return True
    return False


def _realtime(settings: CoordinatorSettings, rule: LaneRule) -> Iterator[LaneRule]:
    return (other for other in settings.lanes if not other.is_batch and other.lane.tenant == rule.lane.tenant)
