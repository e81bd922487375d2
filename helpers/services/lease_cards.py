"""Measures the cards that leases are on, in a thread of its own, so that a silent exporter holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from helpers.domain.leases.facts import CardFacts
from helpers.domain.leases.settings import NodeRule
from helpers.domain.watchdog.facts import GpuSample
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget, Scrape

LOOK_SECONDS = 1.0
# Older figures are no proof of what is free now.
STALE_AFTER_SECONDS = 10.0


class LeaseCards:
    """`ports.leases.Cards`. `look` once, or `run` until stopped."""

    def __init__(self, exporters: Exporters, rules: Sequence[NodeRule], clock: Clock, log: Log) -> None:
        self._exporters = exporters
        self._rules = {ExporterTarget(rule.node, rule.exporter_url): rule for rule in rules}
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._facts: dict[str, tuple[CardFacts, ...]] = {}
        self._looked_seconds = float("-inf")
        self._said: dict[str, str] = {}

    def facts(self) -> Mapping[str, tuple[CardFacts, ...]]:
        """The last look, as long as it is fresh."""
        with self._lock:
            facts, looked_seconds = dict(self._facts), self._looked_seconds
        age_seconds = self._clock.monotonic_seconds() - looked_seconds
        if age_seconds <= STALE_AFTER_SECONDS:
            return facts
        problem = f"the last look is {age_seconds:.0f} s old"
        return {
            node: tuple(replace(card, free_mib=None, problem=problem) for card in cards)
            for node, cards in facts.items()
        }

    def run(self, stop: Callable[[], bool]) -> None:
        """Looks once a second until `stop()`."""
        while not stop():
            self.look()
            self._clock.sleep_seconds(LOOK_SECONDS)

    def look(self) -> None:
        """One round over all exporters."""
        scrapes = self._exporters.scrape(self._rules)
        now_at = self._clock.now_at()
        facts = {scrape.target.node: cards_of(self._rules[scrape.target], scrape, now_at) for scrape in scrapes}
        with self._lock:
            self._facts, self._looked_seconds = facts, self._clock.monotonic_seconds()
        for node, cards in facts.items():
            self._say(node, "; ".join(f"{card.card}: {card.problem}" for card in cards if card.problem))

    def _say(self, node: str, problem: str) -> None:
        if problem == self._said.get(node, ""):
            return
        self._said[node] = problem
        if problem:
            self._log.warning("lease_cards_unknown", node=node, reason=problem)
        else:
            self._log.info("lease_cards_measured", node=node)


def cards_of(rule: NodeRule, scrape: Scrape, now_at: datetime) -> tuple[CardFacts, ...]:
    """One CardFacts for each card of the rule; a card that the exporter does not show is unknown."""
    samples = {sample.gpu: sample for sample in scrape.samples or ()}
    found = []
    for card in rule.cards:
        sample = samples.get(str(card.gpu_index))
        if scrape.samples is None:
            found.append(CardFacts(rule.node, card.gpu_index, None, f"the exporter: {scrape.problem}"))
        elif sample is None:
            found.append(CardFacts(rule.node, card.gpu_index, None, "the exporter does not show it"))
        else:
            found.append(_card(rule.node, card.gpu_index, sample, now_at))
    return tuple(found)


def _card(node: str, gpu_index: int, sample: GpuSample, now_at: datetime) -> CardFacts:
    age_seconds = abs((now_at - sample.sampled_at).total_seconds())
    if not sample.ok or sample.free_mib is None:
        return CardFacts(node, gpu_index, None, sample.error or "its free memory is not measured")
    if age_seconds > STALE_AFTER_SECONDS:
        return CardFacts(node, gpu_index, None, f"its sample is {age_seconds:.0f} s away from now")
    return CardFacts(node, gpu_index, sample.free_mib, pods_mib=_by_pod(sample))


def _by_pod(sample: GpuSample) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for use in sample.pods:
        key = (use.namespace, use.pod)
        found[key] = found.get(key, 0) + use.used_mib
    return found
