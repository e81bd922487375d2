"""Wires ports to adapters. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable

from helpers.adapters.bullmq_clients.hands import FOLDER, BullmqHands, check_clients
from helpers.adapters.clock import SystemClock
from helpers.adapters.coordinator_metrics import PrometheusCoordinatorMetrics
from helpers.adapters.engine_host import EngineHosts
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.exporter_scrape import HttpExporters
from helpers.adapters.immich_queues import EitherHands, ImmichHands
from helpers.adapters.lease import LeaderElection
from helpers.adapters.logging_ import JsonLog, failure_logged, threads_log
from helpers.adapters.metrics import ListenAddress, new_registry
from helpers.adapters.ollama_ import OllamaEngines
from helpers.adapters.process import Loops, Pulse, installed_version, stopped_by_signal
from helpers.adapters.queued_events import QueuedEvents
from helpers.adapters.redis_.board import RedisBoard, RedisLeadership
from helpers.adapters.redis_.connection import with_password
from helpers.adapters.redis_.queue_view import RedisQueues
from helpers.adapters.release_hook import TenantReleaseHooks
from helpers.apps.coordinator.gates import GateWorld, run_gates
from helpers.apps.coordinator.leases import LeaseWorld, run_leases
from helpers.apps.coordinator.server import Answers, served
from helpers.apps.coordinator.settings import RunSettings
from helpers.domain import names
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.coordinator_metrics import CoordinatorMetrics
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.queues import QueueHands
from helpers.services.coordinator import Coordinator, CoordinatorPorts
from helpers.services.coordinator_engines import EngineWatch
from helpers.services.coordinator_nodes import NodeLooks
from helpers.services.coordinator_yield import YieldDesk, YieldPorts
from helpers.services.leases import LeaseKeeper
from helpers.services.tenant_pods import ClusterTenantPods

# Longer than a turn in which Redis, the clients and the API server all time out.
STUCK_AFTER_SECONDS = 60.0


class _Always:
    """`ports.leadership.Leadership` of a dry run: it does nothing, so it must keep nobody from leading."""

    def leads(self) -> bool:
        return True


def run_coordinator(
    settings: CoordinatorSettings,
    run: RunSettings,
    cluster: Cluster | None,
    *,
    stop: Callable[[], bool] | None = None,
    clock: Clock | None = None,
) -> None:
    """Coordinates until SIGTERM or SIGINT (or `stop()`).

    What it paused stays paused at its end, marked: the next coordinator goes on from there.

    Args:
        settings: Lanes and how they are steered.
        run: How this process runs.
        cluster: Where the Lease, the cards' nodes and the tenants' pods are; its rights are `domain.lanes.rights`.
            None outside Kubernetes: a key in Redis says who leads, no node is watched, and a tenant that is to yield
            is asked on the machine of its Ollama.
        stop: In place of the signals, for a caller that is not the main thread.
        clock: Another clock, for tests.

    Raises:
        InputError: an address cannot be used, a client of BullMQ is not installed, or gates are declared and there is
            no cluster.
        Forbidden: the Lease may not be read or written, or nodes not be listed.
    """
    clock = clock or SystemClock()
    log = coordinator_log(dry_run=settings.dry_run)
    log.info("started", settings=settings.model_dump(mode="json", by_alias=True), identity=run.identity)
    registry = new_registry(names.COORDINATOR_COMPONENT, installed_version())
    lanes = [rule.name for rule in settings.lanes]
    metrics = PrometheusCoordinatorMetrics(registry, lanes, [rule.engine.tenant for rule in settings.engines])
    url = with_password(settings.redis.url, run.redis_password)
    with failure_logged(log), contextlib.ExitStack() as stack:
        hands = _hands(settings, run, url, log, stack)
        stopped = stop if stop is not None else stack.enter_context(stopped_by_signal()).is_set
        stack.enter_context(threads_log(log))
        view = RedisQueues(url, settings.prefix, settings.queues(), log, longest_wait_seconds=settings.poll_seconds)
        stack.callback(view.close)
        board = RedisBoard(url)
        stack.callback(board.close)
        here = _Here(settings, run, cluster, clock, log, metrics, stopped, stack)
        engines, leadership = here.engines(), here.leadership(url)
        keepers: list[LeaseKeeper] = []
        ports = CoordinatorPorts(
            view=view,
            hands=hands,
            board=board,
            leadership=leadership,
            engines=engines,
            yields=here.yields(leadership),
            metrics=metrics,
            clock=clock,
            log=log,
            leased=lambda: keepers[0].book.leased_mib() if keepers else {},
        )
        pulses = [Pulse(stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)]
        coordinator = Coordinator(ports, settings, identity=run.identity, stop=pulses[0].stop)
        if settings.leases is not None and settings.dry_run:
            log.info("leases_not_served", reason="in a dry run nobody counts them, so a lease would be no right")
        elif settings.leases is not None:
            world = LeaseWorld(settings, run, url, cluster, leadership, registry, clock, log, stopped, here.loops)
            keeper, pulse = run_leases(world, settings.leases, lambda: coordinator.lane_uses, stack)
            keepers.append(keeper)
            pulses.append(pulse)
        if settings.gates:
            gates = GateWorld(settings, run, cluster, registry, keepers[0] if keepers else None, stopped, here.loops)
            pulses.append(run_gates(gates, ports, lambda: coordinator.demands))
        if run.address:
            answers = Answers(
                settings,
                registry,
                away=lambda: dict(engines.away()),
                verdicts=lambda: coordinator.verdicts,
                healthy=lambda: here.loops.alive() and all(pulse.is_felt() for pulse in pulses),
            )
            port = stack.enter_context(served(answers, ListenAddress.parse(run.address)))
            log.info("http_served", address=run.address, port=port)
        coordinator.run()


def coordinator_log(*, dry_run: bool = False) -> JsonLog:
    """The component's log."""
    clock = SystemClock()
    return JsonLog(names.COORDINATOR_COMPONENT, version=installed_version(), dry_run=dry_run, clock=clock)


def _hands(
    settings: CoordinatorSettings, run: RunSettings, url: str, log: Log, stack: contextlib.ExitStack
) -> QueueHands:
    folder = run.clients_folder or FOLDER
    if any(rule.lane.queues and rule.is_batch and rule.lane.pause == "bullmq" for rule in settings.lanes):
        check_clients(folder)
    bullmq = BullmqHands(url, settings.prefix, log, folder=folder)
    stack.callback(bullmq.close)
    immich = ImmichHands(settings.immich.url, run.immich_api_key) if settings.immich is not None else None
    return EitherHands(bullmq, immich)


@dataclasses.dataclass(frozen=True)
class _Here:
    """What differs between a cluster and a plain process, and the threads beside the loop."""

    settings: CoordinatorSettings
    run: RunSettings
    cluster: Cluster | None
    clock: Clock
    log: Log
    metrics: CoordinatorMetrics
    stopped: Callable[[], bool]
    stack: contextlib.ExitStack
    loops: Loops = dataclasses.field(default_factory=Loops)

    def engines(self) -> EngineWatch:
        """Looks at cards and servers."""
        exporters = HttpExporters(self.clock)
        self.stack.callback(exporters.close)
        nodes = None if self.cluster is None else NodeLooks(self.cluster, self.clock, self.log)
        if nodes is None and self.settings.engines:
            self.log.info("nodes_not_watched", reason="outside Kubernetes no API says whether a node is Ready")
        watch = EngineWatch(
            OllamaEngines(exporters),
            self.settings.engines,
            self.clock,
            self.log,
            self.metrics,
            nodes=nodes,
            dry_run=self.settings.dry_run,
        )
        if self.settings.engines:
            self.loops.start("engines", watch.run, self.stopped)
        return watch

    def yields(self, leadership: Leadership) -> YieldDesk:
        """Asks tenants to give way."""
        ports = YieldPorts(
            pods=EngineHosts(self.settings.engines) if self.cluster is None else ClusterTenantPods(self.cluster),
            hooks=TenantReleaseHooks(),
            leadership=leadership,
            metrics=self.metrics,
            clock=self.clock,
            log=self.log,
            events=self._events(),
        )
        desk = YieldDesk(ports, self.settings)
        if self.settings.hooks:
            self.loops.start("yields", desk.run, self.stopped)
        return desk

    def leadership(self, url: str) -> Leadership:
        """A Lease in a cluster, a key in Redis outside."""
        if self.settings.dry_run:
            return _Always()
        if self.cluster is not None:
            election = LeaderElection(
                self.cluster,
                self.clock,
                self.log,
                namespace=self.run.namespace,
                name=names.COORDINATOR_COMPONENT,
                identity=self.run.identity,
            )
            return self.stack.enter_context(election)
        life_seconds = self.settings.ttl_seconds
        leadership = RedisLeadership(url, self.clock, self.log, identity=self.run.identity, life_seconds=life_seconds)
        self.stack.callback(leadership.give_up)
        return leadership

    def _events(self) -> QueuedEvents | None:
        if self.cluster is None or not self.settings.hooks:
            return None
        instance = f"{socket.gethostname()}_{os.getpid()}"
        events = KubernetesEvents(
            self.cluster, component=names.COORDINATOR_COMPONENT, instance=instance, clock=self.clock, log=self.log
        )
        return self.stack.enter_context(QueuedEvents(events, self.log))
