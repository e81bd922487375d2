"""Asks tenants to give way to realtime, in a thread of its own: a hook that is silent holds nobody up.

Asked once a burst. A hook that fails leaves what would be without it: realtime waits for the jobs that
still run. An answer is no proof; what counts is that the lane's jobs have ended.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.decision import facts_of
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings, HookRule
from helpers.domain.lanes.yielding import AskToYield, asks_to_yield
from helpers.ports.clock import Clock
from helpers.ports.coordinator_metrics import CoordinatorMetrics
from helpers.ports.events import Events, EventType
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.release_hook import ReleaseHooks
from helpers.ports.tenant_pods import AskedPod, TenantPods

# How often the thread looks whether it is to end.
_NAP_SECONDS = 0.5
_EVENT_REASON = "AskedToYield"


@dataclass(frozen=True)
class YieldPorts:
    """What it works with. `events` None: outside Kubernetes."""

    pods: TenantPods
    hooks: ReleaseHooks
    leadership: Leadership
    metrics: CoordinatorMetrics
    clock: Clock
    log: Log
    events: Events | None = None


class YieldDesk:
    """`follow` in the coordinator's loop, which never waits for it; `run` in a thread."""

    def __init__(self, ports: YieldPorts, settings: CoordinatorSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._rules = {rule.tenant: rule for rule in settings.hooks}
        self._asked: frozenset[str] = frozenset()
        self._orders: queue.Queue[AskToYield] = queue.Queue()
        self._lock = threading.Lock()
        self._expected: dict[str, tuple[float, float]] = {}

    def follow(self, now: Situation) -> None:
        """What the leader sees: asks whom it must, and notes who has yielded."""
        self._settle(now)
        asks, self._asked = asks_to_yield(self._settings, now, self._asked)
        for ask in asks:
            self._orders.put(ask)

    def start_over(self) -> None:
        """Another leader acted meanwhile: a burst that goes on is asked about once more."""
        self._asked = frozenset()
        with self._lock:
            self._expected.clear()

    def run(self, stop: Callable[[], bool]) -> None:
        """Carries out what `follow` wants until `stop()`."""
        while not stop():
            self.work(_NAP_SECONDS)

    def work(self, wait_seconds: float) -> bool:
        """Asks the next tenant there is; whether there was one within that time."""
        try:
            ask = self._orders.get(timeout=wait_seconds)
        except queue.Empty:
            return False
        self._carry_out(ask)
        return True

    def _carry_out(self, ask: AskToYield) -> None:
        """One tenant, each pod for no longer than its hook may take."""
        rule, log = self._rules[ask.tenant], self._ports.log
        if self._settings.dry_run:
            self._ports.metrics.asked_to_yield(ask.lane, "dry_run")
            log.info("yield_would_be_asked", lane=ask.lane, tenant=ask.tenant, reason=ask.text)
            return
        if not self._ports.leadership.leads():
            return
        try:
            pods = self._ports.pods.of(rule)
        except DependencyError as error:
            self._failed(ask, str(error))
            return
        if not pods:
            self._failed(ask, f"no pod of {rule.kind} {rule.namespace}/{rule.workload} runs")
            return
        began_seconds = self._ports.clock.monotonic_seconds()
        with self._lock:
            self._expected[ask.lane] = (began_seconds, began_seconds + _effect_seconds(rule))
        refusals = [said for pod in pods if (said := self._call(ask, rule, pod))]
        if len(refusals) == len(pods):
            with self._lock:
                self._expected.pop(ask.lane, None)
            self._failed(ask, "; ".join(refusals))

    def _call(self, ask: AskToYield, rule: HookRule, asked: AskedPod) -> str:
        """Empty where it said yes, else what it said."""
        answered = self._ports.hooks.call(rule.hook, asked.target, rule.hook.timeout_seconds)
        target = asked.target
        text = f"{ask.text}: asked to yield, {'and it said' if answered.ok else 'which failed:'} {answered.text}"
        self._ports.log.info("yield_asked", lane=ask.lane, tenant=ask.tenant, namespace=target.namespace,
                             pod=target.pod, answered=answered.ok, reason=text)  # fmt: skip
        if self._ports.events is not None and asked.pod is not None:
            kind: EventType = "Normal" if answered.ok else "Warning"
            self._ports.events.record(asked.pod, _EVENT_REASON, text, event_type=kind)
        return "" if answered.ok else f"{target.pod}: {answered.text}"

    def _failed(self, ask: AskToYield, reason: str) -> None:
        self._ports.metrics.asked_to_yield(ask.lane, "failed")
        self._ports.log.error("yield_failed", lane=ask.lane, tenant=ask.tenant, reason=reason,
                              text="realtime waits for the jobs that run")  # fmt: skip

    def _settle(self, now: Situation) -> None:
        """Have the jobs of those that were asked ended, or has their time?"""
        with self._lock:
            expected = dict(self._expected)
        for rule in self._settings.lanes:
            if rule.name not in expected:
                continue
            asked_seconds, until_seconds = expected[rule.name]
            active_count = sum(one.active_count for one in facts_of(rule, now))
            if active_count and now.now_seconds < until_seconds:
                continue
            with self._lock:
                self._expected.pop(rule.name, None)
            seconds = round(now.now_seconds - asked_seconds, 2)
            self._ports.metrics.asked_to_yield(rule.name, "no_effect" if active_count else "yielded")
            if active_count:
                self._ports.log.warning("yield_without_effect", lane=rule.name, active_count=active_count,
                                        seconds=seconds, reason="realtime waits for the jobs that run")  # fmt: skip
            else:
                self._ports.log.info("lane_yielded", lane=rule.name, seconds=seconds)


def _effect_seconds(rule: HookRule) -> float:
    return rule.hook.timeout_seconds + rule.hook.remeasure_seconds
