"""Wires ports to adapters. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from helpers.adapters.bullmq_clients.hands import BullmqHands
from helpers.adapters.clock import SystemClock
from helpers.adapters.coordinator_metrics import PrometheusCoordinatorMetrics
from helpers.adapters.exporter_scrape import HttpExporters
from helpers.adapters.immich_queues import EitherHands, ImmichHands
from helpers.adapters.lease import LeaderElection
from helpers.adapters.logging_ import JsonLog, failure_logged
from helpers.adapters.metrics import ListenAddress, new_registry
from helpers.adapters.ollama_ import OllamaEngines
from helpers.adapters.process import Pulse, installed_version, stopped_by_signal
from helpers.adapters.redis_.board import RedisBoard, RedisLeadership
from helpers.adapters.redis_.connection import with_password
from helpers.adapters.redis_.queue_view import RedisQueues
from helpers.apps.coordinator.leases import LeaseWorld, run_leases
from helpers.apps.coordinator.server import Answers, served
from helpers.apps.coordinator.settings import RunSettings
from helpers.domain import names
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.services.coordinator import Coordinator, CoordinatorPorts
from helpers.services.coordinator_engines import EngineWatch
from helpers.services.leases import LeaseKeeper

# Longer than a turn in which Redis, the clients and the API server all time out.
STUCK_AFTER_SECONDS = 60.0


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
        cluster: Where the Lease is; None outside Kubernetes, where a key in Redis says who leads.
        stop: In place of the signals, for a caller that is not the main thread.
        clock: Another clock, for tests.

    Raises:
        InputError: an address cannot be used.
        Forbidden: the Lease may not be read or written.
    """
    clock = clock or SystemClock()
    log = coordinator_log()
    log.info("started", settings=settings.model_dump(mode="json", by_alias=True), identity=run.identity)
    registry = new_registry(names.COORDINATOR_COMPONENT, installed_version())
    lanes = [rule.name for rule in settings.lanes]
    metrics = PrometheusCoordinatorMetrics(registry, lanes, [rule.engine.tenant for rule in settings.engines])
    url = with_password(settings.redis.url, run.redis_password)
    with failure_logged(log), contextlib.ExitStack() as stack:
        stopped = stop if stop is not None else stack.enter_context(stopped_by_signal()).is_set
        engines = _engines(settings, clock, log, metrics, stopped, stack)
        view = RedisQueues(url, settings.prefix, settings.queues(), log)
        stack.callback(view.close)
        board = RedisBoard(url)
        stack.callback(board.close)
        bullmq = BullmqHands(url, settings.prefix, log)
        stack.callback(bullmq.close)
        immich = ImmichHands(settings.immich.url, run.immich_api_key) if settings.immich is not None else None
        leadership = _leadership(cluster, settings, run, url, clock, log, stack)
        pulses = [Pulse(stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)]
        keepers: list[LeaseKeeper] = []
        ports = CoordinatorPorts(
            view=view,
            hands=EitherHands(bullmq, immich),
            board=board,
            leadership=leadership,
            engines=engines,
            metrics=metrics,
            clock=clock,
            log=log,
            leased=lambda: keepers[0].book.leased_mib() if keepers else {},
        )
        coordinator = Coordinator(ports, settings, identity=run.identity, stop=pulses[0].stop)
        if settings.leases is not None:
            world = LeaseWorld(settings, run, url, cluster, leadership, registry, clock, log, stopped)
            keeper, pulse = run_leases(world, settings.leases, lambda: coordinator.lane_uses, stack)
            keepers.append(keeper)
            pulses.append(pulse)
        if run.address:
            answers = Answers(
                settings,
                registry,
                away=lambda: dict(engines.away()),
                verdicts=lambda: coordinator.verdicts,
                healthy=lambda: all(pulse.is_felt() for pulse in pulses),
            )
            port = stack.enter_context(served(answers, ListenAddress.parse(run.address)))
            log.info("http_served", address=run.address, port=port)
        coordinator.run()


def coordinator_log() -> JsonLog:
    """The component's log."""
    clock = SystemClock()
    return JsonLog(names.COORDINATOR_COMPONENT, version=installed_version(), dry_run=False, clock=clock)


def _engines(
    settings: CoordinatorSettings,
    clock: Clock,
    log: Log,
    metrics: PrometheusCoordinatorMetrics,
    stopped: Callable[[], bool],
    stack: contextlib.ExitStack,
) -> EngineWatch:
    exporters = HttpExporters(clock)
    stack.callback(exporters.close)
    watch = EngineWatch(OllamaEngines(exporters), settings.engines, clock, log, metrics)
    if settings.engines:
        threading.Thread(target=watch.run, args=(stopped,), name="engines", daemon=True).start()
    return watch


def _leadership(
    cluster: Cluster | None,
    settings: CoordinatorSettings,
    run: RunSettings,
    url: str,
    clock: Clock,
    log: Log,
    stack: contextlib.ExitStack,
) -> Leadership:
    if cluster is not None:
        election = LeaderElection(
            cluster, clock, log, namespace=run.namespace, name=names.COORDINATOR_COMPONENT, identity=run.identity
        )
        return stack.enter_context(election)
    leadership = RedisLeadership(url, clock, log, identity=run.identity, life_seconds=settings.ttl_seconds)
    stack.callback(leadership.give_up)
    return leadership
