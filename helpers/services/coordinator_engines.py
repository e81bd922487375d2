"""Looks at every tenant's card and server in a thread of its own, so that a silent one holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from helpers.domain.lanes.engines import EngineFacts, Unload, why_away
from helpers.domain.lanes.settings import EngineRule
from helpers.ports.clock import Clock
from helpers.ports.coordinator_metrics import CoordinatorMetrics
from helpers.ports.engines import Engines
from helpers.ports.log import Log
from helpers.services.coordinator_nodes import NodeLooks

LOOK_SECONDS = 1.0


class EngineWatch:
    """What is known of the engines, and the wishes to unload. `look` once, or `run` until stopped."""

    def __init__(
        self,
        engines: Engines,
        rules: Sequence[EngineRule],
        clock: Clock,
        log: Log,
        metrics: CoordinatorMetrics,
        *,
        nodes: NodeLooks | None = None,
        dry_run: bool = False,
    ) -> None:
        self._engines = engines
        self._nodes = nodes
        self._dry_run = dry_run
        self.failure: Exception | None = None
        self._rules = {rule.engine.tenant: rule for rule in rules}
        self._clock = clock
        self._log = log
        self._metrics = metrics
        self._lock = threading.Lock()
        self._facts: dict[str, EngineFacts] = {}
        # At first nothing is known to be wrong: it counts as away only after its time.
        self._good_seconds = dict.fromkeys(self._rules, clock.monotonic_seconds())
        self._away: dict[str, str] = {}
        self._wishes: tuple[Unload, ...] = ()
        self._asked: dict[tuple[str, str], tuple[float, int | None]] = {}
        self._said: tuple[Unload, ...] = ()

    def facts(self) -> Mapping[str, EngineFacts]:
        """The last look at each tenant's; absent before the first."""
        with self._lock:
            return dict(self._facts)

    def away(self) -> Mapping[str, str]:
        """`{tenant: why}` of those that are away."""
        with self._lock:
            return dict(self._away)

    def wish(self, unloads: tuple[Unload, ...]) -> None:
        """What the leader wants out of the memory; replaces what it wanted before."""
        with self._lock:
            self._wishes = unloads

    def run(self, stop: Callable[[], bool]) -> None:
        """Looks once a second until `stop()`; whatever ends it is left in `failure`."""
        try:
            while not stop():
                self.look()
                self._clock.sleep_seconds(LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001 - raised by the loop: a coordinator with one eye shut would stay healthy
            self.failure = error

    def look(self) -> None:
        """One round over all engines, then the wishes.

        Raises:
            Forbidden: nodes may not be listed.
        """
        for tenant, rule in self._rules.items():
            facts = self._engines.look(rule)
            if self._nodes is not None and (why_not := self._nodes.problem(rule)):
                facts = replace(facts, problem="; ".join(filter(None, (why_not, facts.problem))))
            now_seconds = self._clock.monotonic_seconds()
            if not facts.problem:
                self._good_seconds[tenant] = now_seconds
            why = why_away(rule, facts, now_seconds - self._good_seconds[tenant])
            self._note(tenant, facts, why)
        self._metrics.engines({tenant: tenant in self.away() for tenant in self._rules})
        self._carry_out()

    def _note(self, tenant: str, facts: EngineFacts, why: str | None) -> None:
        with self._lock:
            was = tenant in self._away
            self._facts[tenant] = facts
            if why is None:
                self._away.pop(tenant, None)
            else:
                self._away[tenant] = why
        if (why is not None) != was:
            if why is not None:
                self._log.warning("fallback_began", tenant=tenant, reason=why)
            else:
                self._log.info("fallback_ended", tenant=tenant)

    def _carry_out(self) -> None:
        with self._lock:
            wishes, facts = self._wishes, dict(self._facts)
        if self._dry_run:
            self._only_say(wishes)
            return
        now_seconds = self._clock.monotonic_seconds()
        self._settle(facts, now_seconds)
        for wish in wishes:
            rule = self._rules.get(wish.tenant)
            if rule is None or wish.model not in (facts[wish.tenant].loaded or {}):
                continue
            if (wish.tenant, wish.model) in self._asked:
                continue
            refusal = self._engines.unload(rule, wish)
            if refusal:
                self._metrics.unloaded(wish.tenant, "refused")
                self._log.warning("unload_refused", tenant=wish.tenant, model=wish.model, reason=refusal)
                continue
            self._asked[wish.tenant, wish.model] = (now_seconds, facts[wish.tenant].free_mib)
            self._log.info("unload_asked", tenant=wish.tenant, model=wish.model, reason=wish.why)

    def _only_say(self, wishes: tuple[Unload, ...]) -> None:
        for wish in wishes:
            if wish not in self._said:
                self._metrics.unloaded(wish.tenant, "dry_run")
                self._log.info("unload_would_be_asked", tenant=wish.tenant, model=wish.model, reason=wish.why)
        self._said = wishes

    def _settle(self, facts: Mapping[str, EngineFacts], now_seconds: float) -> None:
        """Were the models that were asked out seen to go, and memory with them?"""
        for (tenant, model), (asked_seconds, free_before_mib) in list(self._asked.items()):
            one, rule = facts.get(tenant), self._rules[tenant]
            if one is None or one.problem:
                continue
            gone = model not in (one.loaded or {})
            measured = one.free_mib is None or free_before_mib is None or one.free_mib > free_before_mib
            seconds = now_seconds - asked_seconds
            if gone and measured:
                del self._asked[tenant, model]
                freed_mib = None if one.free_mib is None or free_before_mib is None else one.free_mib - free_before_mib
                self._metrics.unloaded(tenant, "freed")
                self._log.info("model_unloaded", tenant=tenant, model=model, freed_mib=freed_mib,
                               free_mib=one.free_mib, seconds=round(seconds, 2))  # fmt: skip
            elif seconds > rule.engine.unload_timeout_seconds:
                del self._asked[tenant, model]  # asked again at the next look, if it is still wanted
                self._metrics.unloaded(tenant, "overdue")
                reason = "it is still loaded" if not gone else "the card does not show the memory free"
                self._log.warning("unload_overdue", tenant=tenant, model=model, reason=reason)
