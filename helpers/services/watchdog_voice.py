"""What the watchdog says: a log line, a figure and a Kubernetes Event for every act and every refusal.

Bounded: a refusal is said when it begins and then once an hour, a flapping one at most every ten
minutes, and a burst of them (an API or network failure hits a hundred cards at once) is spread.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from helpers.domain.watchdog.decisions import Decision, Reason, Recycle, Refusal
from helpers.domain.watchdog.facts import ActRecord, Outcome, PodFacts
from helpers.domain.watchdog.ladder import StepReport
from helpers.ports.clock import Clock
from helpers.ports.cluster import Manifest
from helpers.ports.events import Events
from helpers.ports.log import Log
from helpers.ports.watchdog_metrics import WatchdogMetrics

SAID_AGAIN_AFTER_SECONDS = 3600.0
FLAPPING_BOUND_SECONDS = 600.0
REFUSAL_EVENTS_PER_MINUTE = 20
# The act itself says these, step by step.
_OWN_ACT = (Reason.ACT_UNDER_WAY, Reason.NOT_MEASURED_SINCE)
_HARMLESS = (Reason.ON_ITS_WAY_BACK, *_OWN_ACT)
_WELL = (Outcome.RELEASED, Outcome.EVICTED, Outcome.DELETED, Outcome.DRY_RUN)

_Key = tuple[str, str, Reason, str]


class Voice:
    """Says each thing once. Called by the loop and by acts in threads of their own."""

    def __init__(self, events: Events, log: Log, metrics: WatchdogMetrics, clock: Clock) -> None:
        self._events = events
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._said: dict[_Key, float] = {}
        self._standing: set[_Key] = set()
        self._event_times: deque[float] = deque()

    def heard(self, decisions: Iterable[Decision]) -> Counter[str]:
        """Counts a pass's decisions by reason, and says the refusals that are new."""
        counts: Counter[str] = Counter()
        standing: set[_Key] = set()
        for decision in decisions:
            counts[decision.reason.value] += 1
            self._metrics.decided(decision.reason)
            if isinstance(decision, Refusal):
                standing.add(decision.key)
                if self._is_news(decision.key):
                    self.refused(decision)
        self._standing = standing
        self._forget()
        return counts

    def refused(self, refusal: Refusal) -> None:
        """One refusal, now."""
        if refusal.reason not in _OWN_ACT and not self._may_write():
            return  # not marked as said: its turn comes
        self._said[refusal.key] = self._clock.monotonic_seconds()
        card = refusal.card
        level = self._log.info if refusal.reason in _HARMLESS else self._log.warning
        level("not_recycled", node=card.node, gpu_uuid=card.uuid, **_who(refusal.pod), free_mib=card.free_mib,
              floor_mib=card.floor_mib, unattributed_mib=card.unattributed_mib, decision="refuse",
              reason=refusal.reason.value, text=refusal.text)  # fmt: skip
        if refusal.reason not in _OWN_ACT:
            about = _pod(refusal.pod) if refusal.pod else _node(card.node)
            kind = "Normal" if refusal.reason in _HARMLESS else "Warning"
            self._events.record(about, "GpumemNotRecycled", refusal.message(), event_type=kind)  # type: ignore[arg-type]

    def would_recycle(self, decision: Recycle, answer: str) -> None:
        """A dry run's act. `answer`: what the API would have said to the eviction."""
        self._log.warning("would_recycle", **_numbers(decision), decision="dry_run", reason=decision.reason.value,
                          eviction=answer)  # fmt: skip
        self._events.record(_pod(decision.victim), "GpumemWouldRecycle", f"{decision.message()}; {answer}")
        self._metrics.recycled(decision.victim.subject, Outcome.DRY_RUN.value, None)

    def begins(self, decision: Recycle) -> None:
        """An act that was announced."""
        self._log.warning("recycle_started", **_numbers(decision), decision="recycle", reason=decision.reason.value)
        self._events.record(_pod(decision.victim), "GpumemRecycling", decision.message(), event_type="Warning")

    def not_begun(self, decision: Recycle, reason: str) -> None:
        """An act that was called off before anything was done."""
        self._log.warning("recycle_called_off", **_numbers(decision), decision="refuse", reason=reason)
        text = f"not recycled after all: {reason}; {decision.message()}"
        if self._may_write():
            self._events.record(_pod(decision.victim), "GpumemNotRecycled", text)

    def step(self, decision: Recycle, report: StepReport) -> None:
        """One finished rung."""
        victim = decision.victim
        self._log.info("recycle_step", node=decision.card.node, gpu_uuid=decision.card.uuid, **_who(victim),
                       step=report.rung.value, seconds=round(report.seconds, 3), freed_mib=report.freed_mib,
                       text=report.text)  # fmt: skip

    def ended(self, decision: Recycle, outcome: Outcome, freed_mib: int | None, text: str, hook_said: str = "") -> None:
        """The end of an act. `hook_said`: what the tenant's release hook answered, where it was called."""
        well = outcome in _WELL
        level = self._log.info if well else self._log.error
        level("recycle_finished", **_numbers(decision), freed_mib=freed_mib, decision=outcome.value, reason=text)
        freed = "unknown" if freed_mib is None else f"{freed_mib} MiB"
        asked = f"; the release hook answered: {hook_said}" if hook_said else ""
        message = f"{outcome.value}: {text}; given back: {freed}; {decision.card}{asked}"
        reason = "GpumemRecycled" if well else "GpumemRecycleFailed"
        self._events.record(_pod(decision.victim), reason, message, event_type="Normal" if well else "Warning")
        self._metrics.recycled(decision.victim.subject, outcome.value, freed_mib)

    def settled(self, record: ActRecord, outcome: Outcome, text: str) -> None:
        """The end of an act that an earlier leader left."""
        pod = {"namespace": record.namespace, "pod": record.pod}
        self._log.warning("recycle_settled", node=record.node, gpu_uuid=record.uuid, **pod, tenant=record.subject,
                          decision=outcome.value, reason=text)  # fmt: skip
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": record.pod, "namespace": record.namespace, "uid": record.uid},
        }
        self._events.record(about, "GpumemRecycleSettled", f"{outcome.value}: {text}")
        self._metrics.recycled(record.subject, outcome.value, None)

    def _is_news(self, key: _Key) -> bool:
        last = self._said.get(key)
        if last is None:
            return True
        bound_seconds = SAID_AGAIN_AFTER_SECONDS if key in self._standing else FLAPPING_BOUND_SECONDS
        return self._clock.monotonic_seconds() - last >= bound_seconds

    def _may_write(self) -> bool:
        now_seconds, times = self._clock.monotonic_seconds(), self._event_times
        while times and now_seconds - times[0] >= 60:
            times.popleft()
        if len(times) >= REFUSAL_EVENTS_PER_MINUTE:
            return False
        times.append(now_seconds)
        return True

    def _forget(self) -> None:
        now_seconds = self._clock.monotonic_seconds()
        old = [key for key, at in self._said.items() if now_seconds - at >= 2 * SAID_AGAIN_AFTER_SECONDS]
        for key in old:
            del self._said[key]


def _pod(pod: PodFacts) -> Manifest:
    metadata = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def _node(name: str) -> Manifest:
    # As the kubelet does: its Events on a node carry the name as uid, and `kubectl describe node` looks for that.
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}


def _who(pod: PodFacts | None) -> dict[str, Any]:
    return {"namespace": pod.namespace, "pod": pod.name, "tenant": pod.subject} if pod else {}


def _numbers(decision: Recycle) -> dict[str, Any]:
    card = decision.card
    return {
        "node": card.node,
        "gpu_uuid": card.uuid,
        **_who(decision.victim),
        "free_mib": card.free_mib,
        "floor_mib": card.floor_mib,
        "deficit_mib": card.deficit_mib,
        "used_mib": decision.used_mib,
        "budget_mib": decision.budget_mib,
        "overshoot_mib": decision.overshoot_mib,
    }
