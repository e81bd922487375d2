"""The last sample of every card, and when each exporter is to be asked again."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from helpers.domain.watchdog.facts import GpuSample
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.watchdog_telemetry import ExporterTarget, Scrape

# The floor of the interval: used where a card is under its floor, or will be before the next look.
QUICK_SECONDS = 1.0
# So much above the floor a card is looked at quickly already.
NEAR_FLOOR_RATIO = 1.25
# Cards of an exporter that left are kept as stale for this many stale ages, then forgotten.
_FORGET_AFTER_STALE_AGES = 10

_Key = tuple[str, str]


@dataclass
class _Exporter:
    """What is known through one exporter; `cards` is `{(node, uuid): sample}`."""

    cards: dict[_Key, GpuSample] = field(default_factory=dict)
    due_at_seconds: float = 0.0
    left_at_seconds: float | None = None


class Samples:
    """Filled by scrapes from several threads. A silent exporter's samples stay, and grow stale."""

    def __init__(self, settings: WatchdogSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._exporters: dict[ExporterTarget, _Exporter] = {}

    def all(self) -> tuple[GpuSample, ...]:
        """The last sample of every card from every exporter, in a stable order."""
        with self._lock:
            cards = [sample for one in self._exporters.values() for sample in one.cards.values()]
        return tuple(sorted(cards, key=lambda sample: (sample.node, sample.gpu, sample.uuid)))

    def of_node(self, node: str) -> tuple[GpuSample, ...]:
        """The same of one node."""
        return tuple(sample for sample in self.all() if sample.node == node)

    def targets_of(self, node: str) -> tuple[ExporterTarget, ...]:
        """The exporters of a node."""
        with self._lock:
            return tuple(target for target in self._exporters if target.node == node)

    def follow(self, targets: Collection[ExporterTarget], now_seconds: float) -> tuple[ExporterTarget, ...]:
        """Takes on new exporters and lets go of those that left long ago, which it returns."""
        with self._lock:
            for target in targets:
                self._exporters.setdefault(target, _Exporter(due_at_seconds=now_seconds)).left_at_seconds = None
            for target, exporter in self._exporters.items():
                if target not in targets and exporter.left_at_seconds is None:
                    exporter.left_at_seconds = now_seconds
            patience_seconds = _FORGET_AFTER_STALE_AGES * self._settings.stale_after_seconds
            gone = tuple(
                target
                for target, exporter in self._exporters.items()
                if exporter.left_at_seconds is not None and now_seconds - exporter.left_at_seconds >= patience_seconds
            )
            for target in gone:
                del self._exporters[target]
        return gone

    def due(self, now_seconds: float) -> tuple[ExporterTarget, ...]:
        """Exporters to be asked now."""
        with self._lock:
            return tuple(
                target
                for target, exporter in self._exporters.items()
                if exporter.left_at_seconds is None and exporter.due_at_seconds <= now_seconds
            )

    def next_due_seconds(self) -> float | None:
        """When the next one is due, on the monotonic clock; None where there is none."""
        with self._lock:
            times = [one.due_at_seconds for one in self._exporters.values() if one.left_at_seconds is None]
        return min(times, default=None)

    def put(self, scrapes: Iterable[Scrape], *, now_at: datetime, now_seconds: float) -> None:
        """Takes in answers. One that lies makes every card known through it unknown, at once."""
        with self._lock:
            for scrape in scrapes:
                exporter = self._exporters.get(scrape.target)
                if exporter is not None:
                    self._take(exporter, scrape, now_at, now_seconds)

    def _take(self, exporter: _Exporter, scrape: Scrape, now_at: datetime, now_seconds: float) -> None:
        before = dict(exporter.cards)
        if scrape.samples is not None:
            exporter.cards |= {(sample.node, sample.uuid): sample for sample in scrape.samples}
        elif scrape.lied:
            exporter.cards = {
                key: replace(sample, ok=False, error=scrape.problem, sampled_at=now_at)
                for key, sample in before.items()
            }
        quick = any(self._is_near(sample, before.get(key)) for key, sample in exporter.cards.items())
        step_seconds = min(QUICK_SECONDS, self._settings.interval_seconds) if quick else self._settings.interval_seconds
        # From when it was due, so that the rhythm does not drift by what a scrape takes; from now after
        # a pause, and where an act looked out of turn.
        on_time = 0 <= now_seconds - exporter.due_at_seconds <= step_seconds
        exporter.due_at_seconds = (exporter.due_at_seconds if on_time else now_seconds) + step_seconds

    def _is_near(self, sample: GpuSample, before: GpuSample | None) -> bool:
        """Whether the card is near its floor, or would fall under it before the next usual look."""
        free_mib = sample.free_mib
        if not sample.ok or free_mib is None:
            return False
        if free_mib < self._settings.floor_mib * NEAR_FLOOR_RATIO:
            return True
        if before is None or before.free_mib is None or before.sampled_at >= sample.sampled_at:
            return False
        fallen_mib = before.free_mib - free_mib
        age_seconds = (sample.sampled_at - before.sampled_at).total_seconds()
        ahead_mib = fallen_mib / age_seconds * 2 * self._settings.interval_seconds
        return fallen_mib > 0 and free_mib - ahead_mib < self._settings.floor_mib
