"""The watchdog's eyes: what was seen last, and a second look at one node right before an act."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from helpers.domain.watchdog.facts import GpuSample, PodFacts
from helpers.domain.watchdog.pressure import doubt
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget, Scrape
from helpers.services.watchdog_pods import PodView, WatchedPod
from helpers.services.watchdog_samples import Samples

# How often an exporter is asked for a newer sample: it takes one a second by default.
SECOND_LOOK_SECONDS = 0.25


class Facts:
    """Samples and pods, kept up to date by the loop and, node by node, by acts."""

    def __init__(
        self,
        settings: WatchdogSettings,
        exporters: Exporters,
        samples: Samples,
        pods: PodView,
        clock: Clock,
        log: Log,
    ) -> None:
        self._settings = settings
        self._exporters = exporters
        self._clock = clock
        self._log = log
        self._failing: dict[ExporterTarget, str] = {}
        self.samples = samples
        self.pods = pods

    def scrape(self, targets: Sequence[ExporterTarget]) -> int:
        """Asks exporters; how many of them gave samples."""
        scrapes = self._exporters.scrape(targets)
        for scrape in scrapes:
            self._tell(scrape)
        self.samples.put(scrapes, now_at=self._clock.now_at(), now_seconds=self._clock.monotonic_seconds())
        return sum(scrape.samples is not None for scrape in scrapes)

    def _tell(self, scrape: Scrape) -> None:
        """When an exporter begins to fail, and when it answers again; not each time between."""
        target = scrape.target
        failing = self._failing.pop(target, None)
        if scrape.samples is None:
            self._failing[target] = scrape.problem
            if failing is None:
                self._log.warning(
                    "exporter_failed", node=target.node, url=target.url, lied=scrape.lied, reason=scrape.problem
                )
        elif failing is not None:
            self._log.info("exporter_answers_again", node=target.node, url=target.url)

    def newer_sample(
        self, node: str, uuid: str, *, newer_than: datetime, within_seconds: float, stop: Callable[[], bool]
    ) -> GpuSample | None:
        """The card's sample as soon as one is newer than that; None where none comes within the time."""
        until_seconds = self._clock.monotonic_seconds() + within_seconds
        while not stop():
            self.scrape(self.samples.targets_of(node))
            sample = self.believable(node, uuid)
            if sample is not None and sample.sampled_at > newer_than:
                return sample
            if self._clock.monotonic_seconds() >= until_seconds:
                return None
            self._clock.sleep_seconds(SECOND_LOOK_SECONDS)
        return None

    def believable(self, node: str, uuid: str) -> GpuSample | None:
        """The card's newest sample, if it may be acted on."""
        mine = [sample for sample in self.samples.of_node(node) if sample.uuid == uuid]
        newest = max(mine, key=lambda sample: (sample.sampled_at, not sample.ok), default=None)
        if newest is None or doubt(newest, self._settings, self._clock.now_at()) is not None:
            return None
        return newest

    def fresh_pods(self, node: str) -> tuple[PodFacts, ...]:
        """The node's pods as the API has them now.

        Raises:
            ClusterError: the API refused or did not answer.
        """
        return self.pods.fresh(node)

    def find(self, uid: str) -> WatchedPod | None:
        """A pod as the watch has it."""
        return self.pods.find(uid)

    def victim_used_mib(self, sample: GpuSample, victim: PodFacts) -> int:
        """What the victim holds by `sample`. Its successor of the same name (a StatefulSet's) does not count."""
        successor = next(
            (
                pod
                for pod in self.pods.all()
                if (pod.namespace, pod.name) == (victim.namespace, victim.name) and pod.uid != victim.uid
            ),
            None,
        )
        if successor is not None:
            return 0
        return sum(row.used_mib for row in sample.pods if (row.namespace, row.pod) == (victim.namespace, victim.name))
