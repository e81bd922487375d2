"""The coordinator's loop: events say when to look, Redis's own state says what is, a pure decision says what to do.

Nothing is inferred from the order of events, so none that is late, doubled or lost can mislead it: an
event only wakes the loop (and shows that a lane was busy in between), and the backstop wakes it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.board import board
from helpers.domain.lanes.clients import ClientName, Refusal
from helpers.domain.lanes.decision import Decision, LaneVerdict, Pause, client_of, decide, demands, is_busy
from helpers.domain.lanes.durations import Durations
from helpers.domain.lanes.engines import held_lanes, measured_mib, to_unload
from helpers.domain.lanes.facts import QueueFacts, Situation
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.domain.leases.facts import LaneUse
from helpers.domain.leases.jobs import lane_uses
from helpers.ports.clock import Clock
from helpers.ports.coordinator_metrics import CoordinatorMetrics
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.queues import LaneBoard, QueueEvent, QueueHands, QueueView
from helpers.services.coordinator_act import QueueExecutor
from helpers.services.coordinator_engines import EngineWatch
from helpers.services.coordinator_yield import YieldDesk

_NAP_SECONDS = 0.2
# After a pass that events caused: at hundreds of jobs a second one pass serves several of them, which
# costs each a hundredth of a second at most and saves most of a core.
_GATHER_SECONDS = 0.01
_FAILED_SECONDS = 0.5
_BUSY_EVENTS = frozenset({"active", "completed", "failed"})


@dataclass(frozen=True)
class CoordinatorPorts:
    """What the coordinator works with."""

    view: QueueView
    hands: QueueHands
    board: LaneBoard
    leadership: Leadership
    engines: EngineWatch
    yields: YieldDesk
    metrics: CoordinatorMetrics
    clock: Clock
    log: Log
    leased: Callable[[], Mapping[str, Mapping[str, int]]] = dict
    """`{tenant: {lane: MiB}}` that leases hold."""


class Coordinator:
    """One process's coordinator. `run` it, or (tests) let it `pass_over` by hand."""

    def __init__(
        self, ports: CoordinatorPorts, settings: CoordinatorSettings, *, identity: str, stop: Callable[[], bool]
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._stop = stop
        self._executor = QueueExecutor(
            ports.hands,
            ports.board,
            ports.leadership,
            ports.metrics,
            ports.clock,
            ports.log,
            identity=identity,
            dry_run=settings.dry_run,
        )
        self._lane_of = {queue: rule.name for rule in settings.lanes for queue in rule.lane.queues}
        self._busy_seconds: dict[str, float] = {}
        self._durations = {rule.name: Durations() for rule in settings.lanes}
        self._led = False
        self._reads = False
        self._problem = ""
        self._published: tuple[dict[str, str], float] = ({}, float("-inf"))
        self._closed_seconds: dict[str, float] = {}
        self._next_seconds = float("-inf")
        self.verdicts: tuple[LaneVerdict, ...] = ()
        self.demands: Mapping[str, int] = {}
        """`{lane: jobs}` as the last pass saw them; empty where this process does not know."""
        self.lane_uses: tuple[LaneUse, ...] | None = None
        """Lanes whose jobs run; None: this process does not look at the queues now."""

    def run(self) -> None:
        """Coordinates until `stop()`.

        Raises:
            Forbidden: the Lease may not be read or written, or nodes not be listed.
        """
        while not self._stop():
            if self._ports.engines.failure is not None:
                raise self._ports.engines.failure
            self.turn()
        self._ports.log.info("coordinator_stopped")

    def turn(self) -> None:
        """One turn of the loop: wait, look, act."""
        leads = self._ports.leadership.leads()
        self._ports.metrics.leads(leads)
        if not leads:
            self._stand_by()
            self._ports.clock.sleep_seconds(_NAP_SECONDS)
            return
        try:
            if not self._led:
                self._take_over()
            is_new = not self._reads
            if is_new:
                self._read_anew()
            events = self._ports.view.wait(self._wait_seconds())
            self.pass_over(events)
        except DependencyError as error:
            self._fail(error)
            return
        if is_new:
            self._ports.log.info("queues_followed", queues=self._settings.queues())
        if self._problem:
            self._ports.log.info("redis_is_back")
            self._problem = ""
        if events:
            self._ports.clock.sleep_seconds(_GATHER_SECONDS)

    def pass_over(self, events: tuple[QueueEvent, ...]) -> tuple[Decision, ...]:
        """Looks at everything, decides, and has it done.

        Raises:
            DependencyError: Redis did not answer.
        """
        ports = self._ports
        queues = ports.view.snapshot()
        now_seconds = ports.clock.monotonic_seconds()
        facts, away = ports.engines.facts(), ports.engines.away()
        now = Situation(
            queues,
            ports.clock.now_at(),
            now_seconds,
            away=away,
            measured_mib=measured_mib(facts),
            leased_mib=ports.leased(),
        )
        self.lane_uses = lane_uses(self._settings, now, facts)
        self._note_busy(now, events)
        self._executor.heard(events, queues)
        now = replace(now, busy_seconds=dict(self._busy_seconds), held=held_lanes(self._settings, now, facts))
        verdicts, decisions = decide(self._settings, now)
        self._say(verdicts)
        self._demand(demands(self._settings, now, verdicts))
        self._publish(verdicts, away, now)
        failed_count = self._executor.carry_out(decisions, queues)
        self._executor.warm(self._clients(queues))
        ports.engines.wish(to_unload(self._settings, now, facts))
        ports.yields.follow(now)
        self._measure(events, decisions, verdicts, now_seconds)
        self._next_seconds = self._due_seconds(verdicts, now, failed_count)
        return decisions

    def _clients(self, queues: Mapping[str, QueueFacts]) -> Iterator[ClientName]:
        for rule in self._settings.lanes:
            for queue in rule.lane.queues if rule.is_batch else ():
                facts = queues.get(queue)
                client = client_of(rule, facts) if facts is not None and not facts.is_blank else None
                if client is not None and not isinstance(client, Refusal):
                    yield client

    def _stand_by(self) -> None:
        """Another one sees the lanes now: what this one saw of them, and wished, must not look like today's."""
        if self._led:
            self.verdicts = ()
            self._closed_seconds.clear()
            self._ports.engines.wish(())
            self._ports.metrics.stands_by()
        self._led = self._reads = False
        self._demand({})
        self.lane_uses = None

    def _take_over(self) -> None:
        """First turn as the leader: what others did meanwhile is read from Redis, not remembered."""
        self._ports.yields.start_over()
        self._busy_seconds.clear()
        self._led = True

    def _read_anew(self) -> None:
        """Another Redis may answer now, one that has lost its streams (a flush, a failover)."""
        self._ports.view.start_over()
        self._executor.start_over()
        self._published = ({}, float("-inf"))
        self._next_seconds = float("-inf")
        self._reads = True

    def _fail(self, error: DependencyError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            self._ports.log.warning("redis_does_not_answer", reason=str(error))
        self._ports.metrics.passed(self._ports.clock.now_at().timestamp(), False)
        self._reads = False
        self._demand({})
        self.lane_uses = None
        # Wishes of a state that nobody sees any more.
        self._ports.engines.wish(())
        self._ports.clock.sleep_seconds(_FAILED_SECONDS)

    def _demand(self, found: Mapping[str, int]) -> None:
        if found != self.demands:
            self.demands = found
            self._ports.metrics.demands(found)

    def _note_busy(self, now: Situation, events: tuple[QueueEvent, ...]) -> None:
        for event in events:
            lane = self._lane_of.get(event.queue)
            if lane is not None:
                self._durations[lane].heard(event.name, event.job, event.at_ms)
                if event.name in _BUSY_EVENTS:
                    self._busy_seconds[lane] = now.now_seconds
        for rule in self._settings.lanes:
            if is_busy(rule, now):
                self._busy_seconds[rule.name] = now.now_seconds

    def _publish(self, verdicts: tuple[LaneVerdict, ...], away: Mapping[str, str], now: Situation) -> None:
        """Before anything is done: a worker that starts a job meanwhile already knows."""
        if self._settings.dry_run:  # workers with the helper act on these
            return
        now_ms = int(now.now_at.timestamp() * 1000)
        waits = {lane: durations.wait_seconds(now_ms) for lane, durations in self._durations.items()}
        documents = board(self._settings, verdicts, away, waits)
        before, at_seconds = self._published
        if documents == before and now.now_seconds - at_seconds < self._settings.ttl_seconds / 3:
            return
        self._ports.board.publish(documents, timedelta(seconds=2 * self._settings.ttl_seconds))
        self._published = (documents, now.now_seconds)

    def _say(self, verdicts: tuple[LaneVerdict, ...]) -> None:
        before = {verdict.lane: (verdict.open, verdict.reason) for verdict in self.verdicts}
        for verdict in verdicts:
            if before.get(verdict.lane) != (verdict.open, verdict.reason):
                self._ports.log.info("lane_changed", lane=verdict.lane, open=verdict.open,
                                     decision=verdict.reason.value, reason=verdict.text)  # fmt: skip
        self.verdicts = verdicts

    def _measure(
        self,
        events: tuple[QueueEvent, ...],
        decisions: tuple[Decision, ...],
        verdicts: tuple[LaneVerdict, ...],
        now_seconds: float,
    ) -> None:
        clock, metrics = self._ports.clock, self._ports.metrics
        starts_ms = [event.at_ms for event in events if event.name == "active" and self._is_realtime(event.queue)]
        if starts_ms and any(isinstance(decision, Pause) for decision in decisions):
            metrics.reacted(max(0.0, clock.now_at().timestamp() - min(starts_ms) / 1000))
        for verdict in verdicts:
            if verdict.open or not verdict.waiting_count:
                self._closed_seconds.pop(verdict.lane, None)
            else:
                self._closed_seconds.setdefault(verdict.lane, now_seconds)
        metrics.lanes(verdicts, {lane: now_seconds - since for lane, since in self._closed_seconds.items()})
        metrics.passed(clock.now_at().timestamp(), True)

    def _is_realtime(self, queue: str) -> bool:
        rule = self._settings.lane_of(queue)
        return rule is not None and not rule.is_batch

    def _due_seconds(self, verdicts: tuple[LaneVerdict, ...], now: Situation, failed_count: int) -> float:
        """When the next pass is due without any event: the backstop, a lane that has settled, a window."""
        due = [self._settings.poll_seconds if not failed_count else min(_FAILED_SECONDS, self._settings.poll_seconds)]
        for verdict in verdicts:
            if verdict.settled_at_seconds is not None:
                due.append(verdict.settled_at_seconds - now.now_seconds)
            if verdict.change_at is not None:
                due.append((verdict.change_at - now.now_at).total_seconds())
        return now.now_seconds + max(0.0, min(due))

    def _wait_seconds(self) -> float:
        left_seconds = self._next_seconds - self._ports.clock.monotonic_seconds()
        return min(self._settings.poll_seconds, max(0.001, left_seconds))
