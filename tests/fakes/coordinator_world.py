"""Queues, hands, engines and figures of the coordinator that tests own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from helpers.domain.errors import DependencyError
from helpers.domain.estate.coordinator import Engine
from helpers.domain.lanes.clients import ClientName
from helpers.domain.lanes.decision import LaneVerdict
from helpers.domain.lanes.engines import EngineFacts, Unload
from helpers.domain.lanes.facts import PauseMark, QueueFacts
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule, HookRule
from helpers.ports.events import Events
from helpers.ports.queues import QueueEvent
from helpers.ports.tenant_pods import AskedPod
from helpers.services.coordinator import Coordinator, CoordinatorPorts
from helpers.services.coordinator_engines import EngineWatch
from helpers.services.coordinator_yield import YieldDesk, YieldPorts
from tests.fakes.lanes import settings
from tests.fakes.outside import FakeClock, FakeLeadership, FakeLog
from tests.fakes.watchdog_ports import FakeHooks


class FakeCoordinatorMetrics:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []
        self.unloads: list[tuple[str, str]] = []
        self.yields: list[tuple[str, str]] = []
        self.away: dict[str, bool] = {}
        self.stood_by_count = 0
        self.demanded: dict[str, int] = {}
        self.leading: bool | None = None
        self.answered: list[bool] = []

    def leads(self, leads: bool) -> None:
        self.leading = leads

    def lanes(self, verdicts: Sequence[LaneVerdict], paused_seconds: Mapping[str, float]) -> None:
        assert set(paused_seconds) <= {verdict.lane for verdict in verdicts}

    def demands(self, demands: Mapping[str, int]) -> None:
        self.demanded = dict(demands)

    def stands_by(self) -> None:
        self.stood_by_count += 1

    def acted(self, lane: str, act: str, outcome: str) -> None:
        self.acts.append((lane, act, outcome))

    def reacted(self, seconds: float) -> None:
        assert seconds >= 0

    def engines(self, away: Mapping[str, bool]) -> None:
        self.away = dict(away)

    def unloaded(self, tenant: str, outcome: str) -> None:
        self.unloads.append((tenant, outcome))

    def asked_to_yield(self, lane: str, outcome: str) -> None:
        self.yields.append((lane, outcome))

    def passed(self, at_seconds: float, answered: bool) -> None:
        self.answered.append(answered)


class FakeRedis:
    """Queue view, board and hands on one state; `dies_at` raises as a process that ends between two steps would."""

    def __init__(self, *facts: QueueFacts) -> None:
        self.queues = {one.queue: one for one in facts}
        self.marks: dict[str, PauseMark] = {}
        self.documents: dict[str, str] = {}
        self.did: list[str] = []
        self.refuses: dict[str, DependencyError] = {}
        self.lost_answers: set[str] = set()

    def snapshot(self) -> Mapping[str, QueueFacts]:
        self._step("snapshot")
        return {name: replace(one, mark=self.marks.get(name)) for name, one in self.queues.items()}

    def wait(self, timeout_seconds: float) -> tuple[QueueEvent, ...]:
        assert timeout_seconds > 0
        return ()

    def start_over(self) -> None:
        self.did.append("start_over")

    def write_mark(self, mark: PauseMark) -> None:
        self._step(f"mark {mark.queue} {'confirmed' if mark.confirmed else 'announced'}")
        self.marks[mark.queue] = mark

    def drop_mark(self, queue: str) -> None:
        self._step(f"drop {queue}")
        self.marks.pop(queue, None)

    def publish(self, documents: Mapping[str, str], life: timedelta) -> None:
        assert life > timedelta(0)
        self.documents.update(documents)

    def pause(self, queue: str, client: ClientName) -> None:
        self._hand("pause", queue, client, paused=True)

    def resume(self, queue: str, client: ClientName) -> None:
        self._hand("resume", queue, client, paused=False)

    def warm(self, client: ClientName) -> None:
        self._step(f"warm {client}")

    def _hand(self, act: str, queue: str, client: str, *, paused: bool) -> None:
        self._step(f"{act} {queue} {client}")
        self.queues[queue] = replace(self.queues[queue], paused=paused)
        if act in self.lost_answers:
            raise DependencyError(f"{act}: no answer in 3 s")

    def _step(self, what: str) -> None:
        word = what.partition(" ")[0]
        if word in self.refuses:
            raise self.refuses[word]
        self.did.append(what)


class FakeEngines:
    """Answers with `facts`; remembers what it was asked to unload."""

    def __init__(self, **facts: EngineFacts) -> None:
        self.facts = facts
        self.unloaded: list[Unload] = []
        self.refusal = ""

    def look(self, rule: EngineRule) -> EngineFacts:
        return self.facts.get(rule.engine.tenant, EngineFacts(rule.engine.tenant))

    def unload(self, rule: EngineRule, unload: Unload) -> str:
        self.unloaded.append(unload)
        return self.refusal


class FakeTenantPods:
    """Gives what `of` is set to."""

    def __init__(self, *pods: AskedPod) -> None:
        self.pods = pods
        self.error: DependencyError | None = None

    def of(self, rule: HookRule) -> tuple[AskedPod, ...]:
        if self.error is not None:
            raise self.error
        return self.pods


def engine_rule(**fields: object) -> EngineRule:
    engine = Engine(tenant="ollama", ollama_url="http://ollama:11434", away_after_seconds=10)
    return EngineRule.model_validate({"engine": engine, "node": "desk", **fields})


class CoordinatorWorld:
    """A coordinator on all of them."""

    def __init__(self, redis: FakeRedis, declared: CoordinatorSettings | None = None) -> None:
        self.redis = redis
        self.settings = declared or settings()
        self.clock, self.log, self.metrics = FakeClock(), FakeLog(), FakeCoordinatorMetrics()
        self.leadership, self.engines, self.hooks = FakeLeadership(), FakeEngines(), FakeHooks()
        self.pods = FakeTenantPods()
        self.events: Events | None = None
        self.stopped: Callable[[], bool] = lambda: False
        self.start()

    def start(self) -> None:
        """A new process."""
        desk = YieldPorts(
            self.pods, self.hooks, self.leadership, self.metrics, self.clock, self.log, events=self.events
        )
        self.watch = EngineWatch(self.engines, self.settings.engines, self.clock, self.log, self.metrics)
        self.desk = YieldDesk(desk, self.settings)
        ports = CoordinatorPorts(
            view=self.redis,
            hands=self.redis,
            board=self.redis,
            leadership=self.leadership,
            engines=self.watch,
            yields=self.desk,
            metrics=self.metrics,
            clock=self.clock,
            log=self.log,
        )
        self.coordinator = Coordinator(ports, self.settings, identity="a", stop=self.stopped)
