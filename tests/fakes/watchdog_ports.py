"""Hooks, stored acts and figures of the watchdog that tests own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from helpers.domain.errors import ClusterError
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.decisions import CardState, Reason
from helpers.domain.watchdog.facts import ActRecord
from helpers.domain.watchdog.ladder_steps import HookAnswered
from helpers.ports.release_hook import HookTarget


class FakeActs:
    """The stored acts; `fail` makes the next writes fail. `after_save` sees the world right then."""

    def __init__(self) -> None:
        self.records: tuple[ActRecord, ...] = ()
        self.fail: list[ClusterError] = []
        self.after_save: Callable[[], None] = lambda: None
        self.capacity_count = 200

    def load(self) -> tuple[ActRecord, ...]:
        return self.records

    def save(self, records: Sequence[ActRecord]) -> None:
        if self.fail:
            raise self.fail.pop()
        self.records = tuple(records)
        self.after_save()


class FakeHooks:
    """Remembers calls; `answer` is called for each."""

    def __init__(self) -> None:
        self.calls: list[tuple[ReleaseHook, HookTarget]] = []
        self.answer: Callable[[], HookAnswered] = lambda: HookAnswered(True, "200")

    def call(self, hook: ReleaseHook, target: HookTarget, timeout_seconds: float) -> HookAnswered:
        assert timeout_seconds > 0
        self.calls.append((hook, target))
        return self.answer()


class FakeWatchdogMetrics:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.leading: bool | None = None
        self.by_tenant: dict[str, bool] = {}
        self.reasons: list[Reason] = []
        self.recycles: list[tuple[str, str, int | None]] = []
        self.shown: list[CardState] = []
        self.passes_count = 0
        self.failed_count = 0

    def leads(self, leads: bool) -> None:
        self.leading = leads

    def dry_runs(self, by_tenant: Mapping[str, bool]) -> None:
        self.by_tenant.update(by_tenant)

    def scraped(self, answered_count: int, failed_count: int) -> None:
        self.failed_count += failed_count

    def decided(self, reason: Reason) -> None:
        self.reasons.append(reason)

    def cards(self, cards: Collection[CardState]) -> None:
        self.shown = list(cards)

    def recycled(self, subject: str, outcome: str, freed_mib: int | None) -> None:
        self.recycles.append((subject, outcome, freed_mib))

    def passed(self, at: datetime, seconds: float) -> None:
        self.passes_count += 1
