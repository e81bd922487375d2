"""One act on one victim, from the second look to the measured end: the ladder's hands.

The ladder (`domain.ladder`) says what comes next; here it is done. Leadership is asked before every
command that touches the tenant, and whatever is not certain ends the act rather than continues it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from helpers.domain.errors import ClusterError
from helpers.domain.watchdog.decisions import Recycle
from helpers.domain.watchdog.facts import ActRecord
from helpers.domain.watchdog.ladder import LadderState, Rung, begin, next_step
from helpers.domain.watchdog.ladder_steps import (
    Answered,
    CallHook,
    Command,
    Delete,
    Elapsed,
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
from helpers.domain.watchdog.recycling import revalidate
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, ObjectRef, Removal
from helpers.ports.leadership import Leadership
from helpers.ports.release_hook import HookTarget, ReleaseHooks
from helpers.services.watchdog_facts import SECOND_LOOK_SECONDS, Facts
from helpers.services.watchdog_history import History
from helpers.services.watchdog_voice import Voice

# A pause is cut into these, so that a stop, a lost leadership or the pod's end is noticed.
_NAP_SECONDS = 0.1
# Announcing takes milliseconds; an API so slow that it takes longer leaves the facts too old to act on.
_FRESH_SECONDS = 2.0
# Where no watch event says that a pod is gone, the API is asked this often.
_LIST_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class ActPorts:
    """What an act works with."""

    cluster: Cluster
    leadership: Leadership
    hooks: ReleaseHooks
    clock: Clock


class Act:
    """One `Recycle` that is no dry run; `run` returns when it is over or not ours any more."""

    def __init__(
        self,
        decision: Recycle,
        record: ActRecord,
        *,
        ports: ActPorts,
        settings: WatchdogSettings,
        facts: Facts,
        history: History,
        voice: Voice,
        stop: Callable[[], bool],
    ) -> None:
        self._decision = decision
        self._record = record
        self._ports = ports
        self._settings = settings
        self._facts = facts
        self._history = history
        self._voice = voice
        self._stop = stop
        self._term = history.term
        self._began_at = ports.clock.now_at()
        self._began_seconds = ports.clock.monotonic_seconds()
        self._listed_seconds = self._began_seconds

    def run(self) -> None:
        """Decide, wait, re-validate, announce, act."""
        confirmed = self._confirmed()
        if not isinstance(confirmed, Recycle):
            self._history.drop(self._record)
            self._voice.not_begun(self._decision, confirmed)
            return
        self._decision = confirmed
        problem = self._announced()
        if problem:
            self._history.drop(self._record)
            self._voice.not_begun(confirmed, problem)
            return
        self._voice.begins(self._decision)
        self._climb()

    def _announced(self) -> str:
        """Stores the act; why it must not begin, else empty. Facts that grew old meanwhile are taken anew."""
        clock = self._ports.clock
        confirmed_seconds = clock.monotonic_seconds()
        problem = self._history.announce(self._record, clock.now_at())
        if problem:
            return f"not announced: {problem}"
        if clock.monotonic_seconds() - confirmed_seconds > _FRESH_SECONDS:
            again = self._revalidated()
            if not isinstance(again, Recycle):
                return again
            self._decision = again
        return "" if self._is_ours() else "this process does not lead any more"

    def _climb(self) -> None:
        """Up the ladder. Where the act is not ours any more, its record is left for the next leader."""
        state, command = begin(self._decision, self._settings, self._now())
        while self._is_ours():
            if isinstance(command, Finish):
                self._history.finish(self._record, command.outcome, command.freed_mib, self._now())
                said = next((step.text for step in state.steps if step.rung is Rung.HOOK), "")
                self._voice.ended(self._decision, command.outcome, command.freed_mib, command.text, said)
                return
            before = state
            state, command = next_step(state, self._observe(state, command), self._now())
            for report in state.steps[len(before.steps) :]:
                self._voice.step(self._decision, report)

    def _is_ours(self) -> bool:
        history = self._history
        return not self._stop() and self._ports.leadership.leads() and history.loaded and history.term == self._term

    def _now(self) -> datetime:
        """Time that does not jump, from a moment at which this clock and the sample's agreed.

        A clock that is set ahead must not end a wait for a disruption budget; and an end written in
        the time of a wrong clock would hold the card up, or lift the cool-down, once it is right again.
        """
        return self._began_at + timedelta(seconds=self._ports.clock.monotonic_seconds() - self._began_seconds)

    def _confirmed(self) -> Recycle | str:
        """The decision as new facts have it, or why it does not stand."""
        self._pause(self._settings.confirm_seconds)
        return self._revalidated()

    def _revalidated(self) -> Recycle | str:
        """On a sample newer than the decision's, and the pods as the API has them now."""
        card = self._decision.card
        self._facts.newer_sample(
            card.node,
            card.uuid,
            newer_than=card.sampled_at,
            within_seconds=self._settings.stale_after_seconds,
            stop=lambda: not self._is_ours(),
        )
        try:
            pods = self._facts.fresh_pods(card.node)
        except ClusterError as error:
            return f"the API does not show the node's pods: {error}"
        self._listed_seconds = self._ports.clock.monotonic_seconds()
        verdict = revalidate(
            self._decision,
            self._settings,
            self._facts.samples.of_node(card.node),
            pods,
            self._history.all(),
            self._ports.clock.now_at(),
        )
        if not isinstance(verdict, Recycle):
            return verdict.message()
        return verdict if not verdict.dry_run else "it is a dry run by now"

    def _observe(self, state: LadderState, command: Command) -> Observation:
        match command:
            case CallHook():
                return self._ask(command)
            case Measure():
                return self._measure(command)
            case Revalidate():
                return self._revalidate_step()
            case Evict() | Delete():
                return self._remove(command)
            case Wait():
                return self._wait(command.seconds)
        raise AssertionError(f"no such command: {command}, {state.rung}")

    def _ask(self, command: CallHook) -> Observation:
        victim = self._decision.victim
        pod, rule = self._facts.find(victim.uid), self._settings.rule(victim.tenant)
        if pod is None or rule is None:
            return HookAnswered(False, "the pod is not there any more")
        target = HookTarget(victim.namespace, victim.name, rule.container, pod.address)
        return self._ports.hooks.call(command.hook, target, command.timeout_seconds)

    def _measure(self, command: Measure) -> Observation:
        """A sample that is newer, from the node's own clock, than anything before the step."""
        self._pause(SECOND_LOOK_SECONDS)  # the ladder asks again at once where it has not seen enough
        card = self._decision.card
        sample = self._facts.newer_sample(
            card.node, card.uuid, newer_than=command.newer_than, within_seconds=1.0, stop=lambda: not self._is_ours()
        )
        if sample is None:
            return Elapsed()
        used_mib = self._facts.victim_used_mib(sample, self._decision.victim)
        return Measured(sample.sampled_at, sample.free_mib, used_mib)

    def _revalidate_step(self) -> Observation:
        fresh = self._revalidated()
        return Revalidated(True) if isinstance(fresh, Recycle) else Revalidated(False, fresh)

    def _remove(self, command: Evict | Delete) -> Observation:
        victim, cluster = self._decision.victim, self._ports.cluster
        ref = ObjectRef("v1", "Pod", victim.name, victim.namespace)
        if not self._is_ours():
            return Answered("failed", "this process does not lead any more")
        try:
            removal: Removal = (
                cluster.evict(ref, uid=command.uid)
                if isinstance(command, Evict)
                else cluster.delete(ref, uid=command.uid)
            )
        except ClusterError as error:
            return Answered("failed", str(error))
        return Answered(removal.answer, removal.text, removal.retry_after_seconds)

    def _wait(self, seconds: float) -> Observation:
        uid = self._decision.victim.uid
        until_seconds = self._ports.clock.monotonic_seconds() + seconds
        while self._is_ours() and self._ports.clock.monotonic_seconds() < until_seconds:
            if self._facts.find(uid) is None:
                return Gone()
            self._look_up()
            self._ports.clock.sleep_seconds(_NAP_SECONDS)
        return Gone() if self._facts.find(uid) is None else Elapsed()

    def _look_up(self) -> None:
        """The watch may be cut off while single requests get through."""
        now_seconds = self._ports.clock.monotonic_seconds()
        if now_seconds - self._listed_seconds < _LIST_EVERY_SECONDS:
            return
        self._listed_seconds = now_seconds
        try:
            self._facts.fresh_pods(self._decision.card.node)
        except ClusterError:
            return  # the watch may still tell

    def _pause(self, seconds: float) -> None:
        until_seconds = self._ports.clock.monotonic_seconds() + seconds
        while self._is_ours() and self._ports.clock.monotonic_seconds() < until_seconds:
            self._ports.clock.sleep_seconds(min(_NAP_SECONDS, seconds))
