"""Turns decisions into acts. The only place that asks whether one is a dry run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from helpers.domain.errors import ClusterError
from helpers.domain.watchdog.decisions import Recycle
from helpers.domain.watchdog.facts import ActRecord, Outcome, PodFacts
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.cluster import ObjectRef
from helpers.services.watchdog_act import Act, ActPorts
from helpers.services.watchdog_facts import Facts
from helpers.services.watchdog_history import History
from helpers.services.watchdog_voice import Voice

# No request of the leader before us is under way any longer: it stopped acting before our lease
# began, and a request of the API client ends within 18 seconds.
INHERITED_WAIT_SECONDS = 20.0
_INHERITED_LOOK_SECONDS = 2.0
_NAP_SECONDS = 0.1

Spawn = Callable[[Callable[[], None]], None]


def dry_runs(settings: WatchdogSettings) -> dict[str, bool]:
    """`{tenant: whether it is only watched}`, for the metrics."""
    return {rule.name: settings.dry_run if rule.dry_run is None else rule.dry_run for rule in settings.tenants}


class Executor:
    """Carries out what was decided, each act in a thread of its own (`spawn`)."""

    def __init__(
        self,
        ports: ActPorts,
        settings: WatchdogSettings,
        *,
        facts: Facts,
        history: History,
        voice: Voice,
        spawn: Spawn,
        stop: Callable[[], bool],
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._facts = facts
        self._history = history
        self._voice = voice
        self._spawn = spawn
        self._stop = stop
        self._own: set[str] = set()
        self._term = -1
        self._term_seconds = 0.0
        self._looked_seconds = -_INHERITED_LOOK_SECONDS

    def carry_out(self, decision: Recycle) -> None:
        """Begins the act, or says what it would be."""
        record = self._history.note(decision, self._ports.clock.now_at())
        if decision.dry_run:
            self._spawn(lambda: self._voice.would_recycle(decision, self._rehearsed(decision.victim)))
            return
        self._own.add(record.uid)
        act = Act(
            decision,
            record,
            ports=self._ports,
            settings=self._settings,
            facts=self._facts,
            history=self._history,
            voice=self._voice,
            stop=self._stop,
        )
        self._spawn(lambda: self._run(act, record))

    def settle_inherited(self) -> None:
        """Ends the acts that another leader, or this process in an earlier term, left unfinished.

        Nothing is done to the pod. It is gone: the act succeeded. It terminates: wait for it. It
        lives on when no request of that leader can be under way any more: the act never happened, and
        the next pass decides afresh.
        """
        now_seconds = self._ports.clock.monotonic_seconds()
        if self._history.term != self._term:
            self._term, self._term_seconds, self._own = self._history.term, now_seconds, set()
        inherited = [record for record in self._history.unfinished() if record.uid not in self._own]
        if not inherited or now_seconds - self._looked_seconds < _INHERITED_LOOK_SECONDS:
            return
        self._looked_seconds = now_seconds
        for record in inherited:
            self._settle(record, now_seconds - self._term_seconds)

    def wait_idle(self, within_seconds: float) -> None:
        """Lets acts come to a safe end after `stop`: a request that is under way is awaited."""
        until_seconds = self._ports.clock.monotonic_seconds() + within_seconds
        while self._own and self._ports.clock.monotonic_seconds() < until_seconds:
            self._ports.clock.sleep_seconds(_NAP_SECONDS)

    def _run(self, act: Act, record: ActRecord) -> None:
        try:
            act.run()
        finally:
            self._own.discard(record.uid)

    def _rehearsed(self, victim: PodFacts) -> str:
        """What the API would have said: a missing right and a disruption budget show before it matters."""
        ref = ObjectRef("v1", "Pod", victim.name, victim.namespace)
        try:
            removal = self._ports.cluster.evict(ref, uid=victim.uid, dry_run=True)
        except ClusterError as error:
            return f"the eviction would fail: {error}"
        if removal.answer == "accepted":
            return "the eviction would be accepted"
        return f"the eviction would be answered {removal.answer}: {removal.text}"

    def _settle(self, record: ActRecord, term_age_seconds: float) -> None:
        try:
            pods = self._facts.fresh_pods(record.node)
        except ClusterError:
            return  # asked again soon
        now = self._ports.clock.now_at()
        pod = next((pod for pod in pods if pod.uid == record.uid), None)
        patience = timedelta(seconds=self._settings.gone_timeout_seconds)
        if pod is None:
            self._end(record, Outcome.EVICTED, "the leader that began it ended; the pod is gone")
        elif pod.deletion_at is not None:
            if now - pod.deletion_at > patience:
                self._end(record, Outcome.STUCK, "the leader that began it ended; the pod still terminates")
        elif term_age_seconds >= INHERITED_WAIT_SECONDS:
            self._end(record, Outcome.ABANDONED, "the leader that began it ended before the pod was evicted")

    def _end(self, record: ActRecord, outcome: Outcome, text: str) -> None:
        self._history.finish(record, outcome, None, self._ports.clock.now_at())
        self._voice.settled(record, outcome, text)
