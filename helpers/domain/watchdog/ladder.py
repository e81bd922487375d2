"""The ladder of one act, as a state machine: release hook, measure, evict, wait, delete.

`begin` gives the first command; the service carries out one command, says what it observed, and
`next_step` gives the next. Nothing here waits or calls: `now` is an argument and a command says how
long its answer may take. A command that must not be taken on old facts is `Revalidate`, and `Evict`
and `Delete` only ever follow a `Revalidated(valid=True)`; so a tenant that went back into its
budget while a PodDisruptionBudget said 429 is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.decisions import Recycle
from helpers.domain.watchdog.facts import Outcome
from helpers.domain.watchdog.ladder_steps import (
    Answered,
    CallHook,
    Command,
    Delete,
    Evict,
    Finish,
    Gone,
    HookAnswered,
    Measure,
    Measured,
    Observation,
    Revalidate,
    Revalidated,
    Wait,
)
from helpers.domain.watchdog.settings import WatchdogSettings

# How often a pod's end is looked for where no watch event says so.
_POLL_SECONDS = 1.0


class Rung(StrEnum):
    """Where the act is. The values are the steps' names in logs and Events."""

    HOOK = "release_hook"
    MEASURE_HOOK = "measure_after_hook"
    REVALIDATE = "revalidate"
    EVICT = "evict"
    BLOCKED = "wait_for_disruption_budget"
    DELETE = "delete"
    GONE = "wait_until_gone"
    MEASURE = "measure_after"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step. `freed_mib` is what the victim holds less on the card; None: not measured."""

    rung: Rung
    seconds: float
    freed_mib: int | None
    text: str


@dataclass(frozen=True, slots=True)
class LadderState:
    """One act. `next_act` is what a valid re-validation leads to; `held_mib` the victim's last known use."""

    decision: Recycle
    settings: WatchdogSettings
    hook: ReleaseHook | None
    rung: Rung
    rung_since: datetime
    held_mib: int
    next_act: Literal[Rung.EVICT, Rung.DELETE] = Rung.EVICT
    evict_since: datetime | None = None
    removed_by: Outcome | None = None
    steps: tuple[StepReport, ...] = ()

    @property
    def freed_mib(self) -> int | None:
        """MiB that all steps gave back; None where no step was measured."""
        measured = [step.freed_mib for step in self.steps if step.freed_mib is not None]
        return sum(measured) if measured else None


Next = tuple[LadderState, Command]


def begin(decision: Recycle, settings: WatchdogSettings, now: datetime) -> Next:
    """The first command for `decision`, which the caller has just re-validated.

    Raises:
        ValueError: the decision is a dry run, which has no ladder.
    """
    if decision.dry_run:
        msg = f"a dry run of {decision.victim} is not carried out"
        raise ValueError(msg)
    rule = settings.rule(decision.victim.tenant)
    hook = rule.release_hook if rule else None
    rung = Rung.HOOK if hook else Rung.EVICT
    state = LadderState(decision, settings, hook, rung, now, decision.used_mib)
    if hook:
        return state, CallHook(hook, hook.timeout_seconds)
    return replace(state, evict_since=now), Evict(decision.victim.uid)


def next_step(state: LadderState, observation: Observation, now: datetime) -> Next:
    """The next state and command. An observation that the rung does not expect counts as Elapsed.

    Gone is heeded on every rung, since somebody else may remove the pod too.
    """
    if state.rung is Rung.DONE:
        return state, Finish(Outcome.FAILED, state.freed_mib, "the act is over already")
    if isinstance(observation, Gone) and state.rung not in (Rung.GONE, Rung.MEASURE):
        return _measure_after(_reported(state, now, None, "the pod is gone"), now)
    return _RUNGS[state.rung](state, observation, now)


def _hook(state: LadderState, observation: Observation, now: datetime) -> Next:
    if isinstance(observation, HookAnswered) and observation.ok:
        return _enter(_reported(state, now, None, observation.text), Rung.MEASURE_HOOK, now), Measure(now)
    text = observation.text if isinstance(observation, HookAnswered) else ""
    if isinstance(observation, HookAnswered) or _spent(state, now, state.hook.timeout_seconds if state.hook else 0.0):
        return _revalidate(_reported(state, now, None, f"failed: {text or 'no answer in time'}"), Rung.EVICT, now)
    return state, Wait(_POLL_SECONDS)


def _measure_hook(state: LadderState, observation: Observation, now: datetime) -> Next:
    """Enough was given back: done. Not yet: look again. Time is up: up the ladder, on known facts only."""
    wait_seconds = state.hook.remeasure_seconds if state.hook else 0.0
    known = isinstance(observation, Measured) and observation.sampled_at > state.rung_since
    if known and isinstance(observation, Measured):
        used_mib, free_mib = observation.victim_used_mib, observation.free_mib
        in_budget = used_mib is not None and used_mib <= (state.decision.budget_mib or 0)
        enough = free_mib is not None and free_mib >= state.decision.card.floor_mib
        if in_budget or enough:
            return _done(_measured(state, used_mib, now), Outcome.RELEASED, "the release hook gave back enough", now)
        if _spent(state, now, wait_seconds):
            return _revalidate(_measured(state, used_mib, now), Rung.EVICT, now)
    elif _spent(state, now, wait_seconds):
        # Unknown is no reason to evict; re-validation needs a believable sample and will refuse without.
        return _revalidate(_reported(state, now, None, "not measured in time"), Rung.EVICT, now)
    return state, Measure(state.rung_since)


def _revalidating(state: LadderState, observation: Observation, now: datetime) -> Next:
    if not isinstance(observation, Revalidated):
        return state, Revalidate()
    if not observation.valid:
        # A hook that gave something back was an act, and cools down like one.
        given_back = state.freed_mib or 0
        outcome = Outcome.RELEASED if given_back > 0 else _called_off(state)
        return _done(state, outcome, observation.text, now)
    act = state.next_act
    entered = _enter(state, act, now)
    uid = state.decision.victim.uid
    if act is Rung.DELETE:
        return entered, Delete(uid)
    return replace(entered, evict_since=state.evict_since or now), Evict(uid)


def _called_off(state: LadderState) -> Outcome:
    if state.evict_since is not None:
        return Outcome.BLOCKED
    return Outcome.FAILED if state.hook else Outcome.ABANDONED


def _evict(state: LadderState, observation: Observation, now: datetime) -> Next:
    if not isinstance(observation, Answered):
        observation = Answered("failed", "no answer")
    if observation.answer == "accepted":
        return _wait_gone(replace(_reported(state, now, None, "accepted"), removed_by=Outcome.EVICTED), now)
    if observation.answer == "gone":
        return _measure_after(_reported(state, now, None, "the pod is gone"), now)
    settings = state.settings
    spent = state.evict_since is not None and now - state.evict_since >= timedelta(
        seconds=settings.eviction_timeout_seconds
    )
    if not spent:
        wait_seconds = max(settings.eviction_retry_seconds, observation.retry_after_seconds or 0.0)
        return _enter(state, Rung.BLOCKED, now), Wait(min(wait_seconds, settings.eviction_timeout_seconds))
    tried = _reported(state, now, None, f"{observation.answer}: {observation.text}")
    if observation.answer == "failed":
        # An API that does not answer is no budget that never yields: deletion is not the cure.
        return _done(tried, Outcome.FAILED, f"eviction failed: {observation.text}", now)
    if settings.allow_delete and settings.on_blocked == "delete":
        return _revalidate(tried, Rung.DELETE, now)
    return _done(tried, Outcome.BLOCKED, f"a PodDisruptionBudget never yielded: {observation.text}", now)


def _blocked(state: LadderState, _observation: Observation, now: datetime) -> Next:
    return _revalidate(state, Rung.EVICT, now)


def _delete(state: LadderState, observation: Observation, now: datetime) -> Next:
    if isinstance(observation, Answered) and observation.answer == "accepted":
        return _wait_gone(replace(_reported(state, now, None, "accepted"), removed_by=Outcome.DELETED), now)
    if isinstance(observation, Answered) and observation.answer == "gone":
        return _measure_after(_reported(state, now, None, "the pod is gone"), now)
    text = observation.text if isinstance(observation, Answered) else "no answer"
    return _done(_reported(state, now, None, text), Outcome.FAILED, f"deletion failed: {text}", now)


def _wait_until_gone(state: LadderState, observation: Observation, now: datetime) -> Next:
    if isinstance(observation, Gone):
        return _measure_after(_reported(state, now, None, "gone"), now)
    if _spent(state, now, state.settings.gone_timeout_seconds):
        text = f"the pod still terminates after {state.settings.gone_timeout_seconds:.0f} s"
        return _done(_reported(state, now, None, text), Outcome.STUCK, text, now)
    return state, Wait(_POLL_SECONDS)


def _measure(state: LadderState, observation: Observation, now: datetime) -> Next:
    """The pod is gone; what it held is back once a sample that came after shows it.

    The driver may still count the process for a moment, so a sample in which the victim holds
    something is looked past until the time for measuring is up.
    """
    outcome = state.removed_by or Outcome.ABANDONED
    spent = _spent(state, now, state.settings.measure_timeout_seconds)
    if isinstance(observation, Measured) and observation.sampled_at > state.rung_since:
        used_mib = observation.victim_used_mib
        if used_mib and not spent:
            return state, Measure(state.rung_since)
        text = f"{observation.free_mib if observation.free_mib is not None else 'unknown'} MiB free"
        return _done(_measured(state, used_mib, now), outcome, text, now)
    if spent:
        return _done(_reported(state, now, None, "not measured in time"), outcome, "not measured in time", now)
    return state, Measure(state.rung_since)


_RUNGS: dict[Rung, Callable[[LadderState, Observation, datetime], Next]] = {
    Rung.HOOK: _hook,
    Rung.MEASURE_HOOK: _measure_hook,
    Rung.REVALIDATE: _revalidating,
    Rung.EVICT: _evict,
    Rung.BLOCKED: _blocked,
    Rung.DELETE: _delete,
    Rung.GONE: _wait_until_gone,
    Rung.MEASURE: _measure,
}


def _enter(state: LadderState, rung: Rung, now: datetime) -> LadderState:
    return replace(state, rung=rung, rung_since=now)


def _revalidate(state: LadderState, act: Literal[Rung.EVICT, Rung.DELETE], now: datetime) -> Next:
    return _enter(replace(state, next_act=act), Rung.REVALIDATE, now), Revalidate()


def _wait_gone(state: LadderState, now: datetime) -> Next:
    return _enter(state, Rung.GONE, now), Wait(_POLL_SECONDS)


def _measure_after(state: LadderState, now: datetime) -> Next:
    return _enter(state, Rung.MEASURE, now), Measure(now)


def _done(state: LadderState, outcome: Outcome, text: str, now: datetime) -> Next:
    return _enter(state, Rung.DONE, now), Finish(outcome, state.freed_mib, text)


def _spent(state: LadderState, now: datetime, seconds: float) -> bool:
    return now - state.rung_since >= timedelta(seconds=seconds)


def _reported(state: LadderState, now: datetime, freed_mib: int | None, text: str) -> LadderState:
    seconds = (now - state.rung_since).total_seconds()
    return replace(state, steps=(*state.steps, StepReport(state.rung, seconds, freed_mib, text)))


def _measured(state: LadderState, used_mib: int | None, now: datetime) -> LadderState:
    """The step's report with what the victim holds less than before; a victim that grew gave nothing."""
    if used_mib is None:
        return _reported(state, now, None, "the victim's use is unknown")
    freed_mib = max(0, state.held_mib - used_mib)
    return replace(_reported(state, now, freed_mib, f"{used_mib} MiB held"), held_mib=used_mib)
