"""The watchdog's loop: see, decide, have it done, say so.

Only the leader looks at cards; the others keep their pods and targets up to date, so that they can
take over at once. The interval is the time between two looks at a healthy card; a card near its
floor, or falling towards it, is looked at every second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from helpers.domain.errors import ClusterError
from helpers.domain.watchdog.decisions import Decision, Recycle, is_verdict
from helpers.domain.watchdog.facts import PodFacts
from helpers.domain.watchdog.pressure import doubt
from helpers.domain.watchdog.recycling import decide
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Frame
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.events import Events
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.release_hook import ReleaseHooks
from helpers.ports.trace_recorder import TraceRecorder
from helpers.ports.watchdog_acts import ActStore
from helpers.ports.watchdog_metrics import WatchdogMetrics
from helpers.ports.watchdog_telemetry import Exporters
from helpers.services.watchdog_act import ActPorts
from helpers.services.watchdog_executor import Executor, Spawn, dry_runs
from helpers.services.watchdog_facts import Facts
from helpers.services.watchdog_history import History
from helpers.services.watchdog_pods import PodReading, PodView
from helpers.services.watchdog_samples import Samples
from helpers.services.watchdog_targets import Targets
from helpers.services.watchdog_voice import Voice

# How long the loop sleeps at most: a stop and a change of the leader are noticed within it.
_NAP_SECONDS = 0.2
_LOAD_RETRY_SECONDS = 1.0
# Each pass ends with counters in the log, quick ones only this often.
_COUNTERS_EVERY_SECONDS = 4.5

# A pod has 30 s to end by default, and the lease is given up after this.
_LAST_REQUEST_SECONDS = 15.0

Stop = Callable[[], bool]


@dataclass(frozen=True)
class WatchdogPorts:
    """What the watchdog works with."""

    cluster: Cluster
    leadership: Leadership
    exporters: Exporters
    targets: Targets
    acts: ActStore
    hooks: ReleaseHooks
    events: Events
    metrics: WatchdogMetrics
    clock: Clock
    log: Log
    recorder: TraceRecorder | None = None
    spawn: Spawn = field(default=lambda work: threading.Thread(target=work, name="act", daemon=True).start())


class Watchdog:
    """One process's watchdog. `run` it, or (tests, benchmarks) let it `pass_over` by hand."""

    def __init__(self, ports: WatchdogPorts, settings: WatchdogSettings, reading: PodReading, *, stop: Stop) -> None:
        self._ports = ports
        self._settings = settings
        self._stop = stop
        self.samples = Samples(settings)
        self.pods = PodView(ports.cluster, reading)
        self.history = History(ports.acts, settings, ports.log)
        self._voice = Voice(ports.events, ports.log, ports.metrics, ports.clock)
        self._facts = Facts(settings, ports.exporters, self.samples, self.pods, ports.clock, ports.log)
        self.executor = Executor(
            ActPorts(ports.cluster, ports.leadership, ports.hooks, ports.clock),
            settings,
            facts=self._facts,
            history=self.history,
            voice=self._voice,
            spawn=ports.spawn,
            stop=stop,
        )
        self._counted_seconds = -_COUNTERS_EVERY_SECONDS
        ports.metrics.dry_runs(dry_runs(settings))

    def run(self) -> None:
        """Watches until `stop()`.

        Raises:
            Forbidden: a permission is missing; the message names it.
            InputError: the stored acts cannot be read.

        Whatever else ends one of its threads is raised, too.
        """
        followers = [
            threading.Thread(target=follow, args=(self._stop,), name=name, daemon=True)
            for name, follow in (
                ("pods", self.pods.follow),
                ("claims", self.pods.claims.follow),
                ("slices", self.pods.claims.follow_slices),
                ("targets", self._ports.targets.follow),
            )
        ]
        for follower in followers:
            follower.start()
        while not self._stop():
            self._raise_failures()
            self._ports.clock.sleep_seconds(self._turn())
        self.executor.wait_idle(_LAST_REQUEST_SECONDS)
        for follower in followers:
            follower.join()
        self._ports.log.info("watchdog_stopped")

    def _raise_failures(self) -> None:
        for failure in (self.pods.failure, self.pods.claims.failure, self._ports.targets.failure):
            if failure is not None:
                raise failure

    def _turn(self) -> float:
        """One turn of the loop; how long to sleep after it."""
        if not self.take_over():
            return _NAP_SECONDS if self.history.loaded or not self._ports.leadership.leads() else _LOAD_RETRY_SECONDS
        clock = self._ports.clock
        gone = self.samples.follow(self._ports.targets.now(), clock.monotonic_seconds())
        if gone:
            self._ports.exporters.forget(gone)
            self._ports.log.info("exporters_gone", nodes=sorted(target.node for target in gone))
        if self.samples.due(clock.monotonic_seconds()):
            self.pass_over()
        due_seconds = self.samples.next_due_seconds()
        left_seconds = _NAP_SECONDS if due_seconds is None else due_seconds - clock.monotonic_seconds()
        return min(_NAP_SECONDS, max(0.01, left_seconds))

    def take_over(self) -> bool:
        """Whether this process may decide now; reads what earlier leaders did when it begins to lead."""
        leads = self._ports.leadership.leads()
        self._ports.metrics.leads(leads)
        if not leads:
            self.history.forget()
            return False
        if not self.history.loaded:
            try:
                self.history.load()
            except ClusterError as error:
                self._ports.log.warning("history_not_loaded", reason=str(error))
                return False
            self._ports.log.info("history_loaded", acts_count=len(self.history.all()))
        return True

    def pass_over(self) -> tuple[Decision, ...]:
        """Asks the exporters that are due, decides on every card, and begins what was decided."""
        clock = self._ports.clock
        began_seconds = clock.monotonic_seconds()
        due = self.samples.due(began_seconds)
        answered_count = self._facts.scrape(due)
        self._ports.metrics.scraped(answered_count, len(due) - answered_count)
        self.history.settle()
        if self._clock_is_right(clock.now_at()):
            self.history.prune(clock.now_at())
        self.executor.settle_inherited()
        decisions = self._decide()
        counts = self._voice.heard(decisions)
        for decision in decisions:
            if isinstance(decision, Recycle):
                self.executor.carry_out(decision)
        seconds = clock.monotonic_seconds() - began_seconds
        self._ports.metrics.cards([decision.card for decision in decisions if is_verdict(decision)])
        self._ports.metrics.passed(clock.now_at(), seconds)
        if clock.monotonic_seconds() - self._counted_seconds >= _COUNTERS_EVERY_SECONDS:
            self._counted_seconds = clock.monotonic_seconds()
            self._ports.log.info("pass_finished", exporters_count=len(due), answered_count=answered_count,
                                 seconds=round(seconds, 3), decisions=dict(counts))  # fmt: skip
        return decisions

    def _clock_is_right(self, now: datetime) -> bool:
        """Whether some exporter agrees: a clock that is set ahead must not make the cool-downs look old."""
        return any(doubt(sample, self._settings, now) is None for sample in self.samples.all())

    def _decide(self) -> tuple[Decision, ...]:
        samples = self.samples.all()
        nodes = {sample.node for sample in samples}
        pods: tuple[PodFacts, ...] = tuple(pod for pod in self.pods.all() if pod.node in nodes)
        now = self._ports.clock.now_at()
        if self._ports.recorder is not None:
            self._ports.recorder.record(Frame(now, samples, pods))
        return decide(self._settings, samples, pods, self.history.all(), now)
