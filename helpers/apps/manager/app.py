"""Wires ports to adapters. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_callers import KubernetesCallers
from helpers.adapters.lease import LeaderElection
from helpers.adapters.logging_ import JsonLog, failure_logged
from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.adapters.metrics import ListenAddress, new_registry
from helpers.adapters.metrics import served as metrics_served
from helpers.adapters.process import Loops, Pulse, installed_version, stopped_by_signal
from helpers.adapters.sql_.alert_memory import SqlAlertMemory
from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.leadership import DatabaseLeadership
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.adapters.token_file import TokenFile
from helpers.apps.manager.alerts import alert_channels
from helpers.apps.manager.api import Counted, manager_api
from helpers.apps.manager.settings import RunSettings
from helpers.apps.manager.world import ApiWorld
from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.job_engine import JobEngine
from helpers.ports.leadership import Leadership
from helpers.ports.leases import Callers
from helpers.ports.log import Log
from helpers.ports.manager_metrics import JobUtilisation
from helpers.services.budget_alerts import BudgetAlerting
from helpers.services.budget_watch import BudgetWatch
from helpers.services.manager_cards import CardBoard
from helpers.services.manager_figures import ManagerFigures
from helpers.services.manager_jobs import JobDesk
from helpers.services.manager_loop import ManagerLoop, ManagerPorts
from helpers.services.manager_money import Purse
from helpers.services.manager_queue import QueueBoard

# Longer than a turn in which the database and the API server both time out.
STUCK_AFTER_SECONDS = 120.0
MOST_BODY_BYTES = 256 * 1024
SWITCH_SECONDS = 0.001


@dataclass(frozen=True)
class Outside:
    """What a manager works with besides its database.

    Attributes:
        cluster: Where the Lease is and who knows tokens; None outside Kubernetes.
        engine: What queues jobs and lets them go; None: jobs are taken, and stay pending.
        utilisation: What jobs do with their GPUs; None: nobody measures, and no job is idle.
    """

    cluster: Cluster | None = None
    engine: JobEngine | None = None
    utilisation: JobUtilisation | None = None


def run_manager(
    settings: ManagerSettings,
    run: RunSettings,
    outside: Outside,
    *,
    stop: Callable[[], bool] | None = None,
    clock: Clock | None = None,
) -> None:
    """Serves the API, and where it leads runs the loops, until SIGTERM or SIGINT (or `stop()`).

    Raises:
        InputError: an address, the database's URL or the token file cannot be used.
        DependencyError: the database does not answer at the start.
        Forbidden: the Lease may not be read or written.
    """
    clock = clock or SystemClock()
    log = manager_log(dry_run=run.dry_run)
    log.info("started", settings=settings.model_dump(mode="json"), identity=run.identity)
    registry = new_registry(names.MANAGER_COMPONENT, installed_version())
    # Threads that put a long queue in order give way to those that answer requests sooner than they would.
    sys.setswitchinterval(SWITCH_SECONDS)
    with failure_logged(log), contextlib.ExitStack() as stack:
        stopped = stop if stop is not None else stack.enter_context(stopped_by_signal()).is_set
        database = open_database(run.database_url)
        stack.callback(database.dispose)
        migrate(database)
        store = SqlJobStore(database)
        channels = alert_channels(settings.budget_alerts, run.alert_secrets)
        metrics = PrometheusManagerMetrics(
            registry, [project.name for project in settings.projects], settings.budgets_usd(), channels
        )
        purse = Purse(settings.prices, settings.physical_mib())
        board = QueueBoard(store, outside.engine, settings, clock, log)
        board.look()
        pulses = [Pulse(stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS) for _ in range(2)]
        loops = Loops()
        loops.start("queue", board.run, pulses[0].stop)
        figures = ManagerFigures(store, board, purse, settings, metrics, clock, log, outside.engine)
        loops.start("figures", figures.run, stopped)

        def healthy() -> bool:
            return loops.alive() and all(pulse.is_felt() for pulse in pulses)

        desk = JobDesk(store, outside.engine, settings, purse, clock)
        callers = _callers(settings, run, outside.cluster, clock)
        cards = None
        if outside.cluster is not None and outside.engine is not None:
            cards = CardBoard(outside.cluster, outside.engine, board, clock)
        world = ApiWorld(settings, store, desk, board, purse, outside.engine, callers, clock, log, healthy, cards)
        if run.metrics_address:
            metrics_port = stack.enter_context(
                metrics_served(registry, ListenAddress.parse(run.metrics_address), healthy, store.answers)
            )
            log.info("metrics_served", address=run.metrics_address, port=metrics_port)
        leadership = _leadership(run, outside.cluster, database, clock, log, stack)
        address = ListenAddress.parse(run.address)
        served = asgi_served(
            Counted(manager_api(world), metrics),
            address,
            name="api",
            option="--address",
            tls_folder=run.tls_folder,
            most_body_bytes=MOST_BODY_BYTES,
        )
        # What was made until here stays: a collection need not look at it, which takes longer than a request.
        gc.collect()
        gc.freeze()
        port = stack.enter_context(served)
        log.info("http_served", address=run.address, port=port)
        if channels:
            alerting = BudgetAlerting(channels, SqlAlertMemory(database, clock), dry_run=run.dry_run)
            watch = BudgetWatch(store, purse, settings, alerting, leadership, metrics, clock, log)
            loops.start("budgets", watch.run, stopped)
        if outside.engine is None:
            log.warning("no_engine", reason="jobs are taken and stay pending until a manager with an engine runs")
            _wait(pulses[1].stop, clock)
            return
        ports = ManagerPorts(store, outside.engine, leadership, metrics, clock, log, outside.utilisation)
        ManagerLoop(ports, settings, purse, pulses[1].stop).run()


def manager_log(*, dry_run: bool = False) -> JsonLog:
    """The component's log."""
    return JsonLog(names.MANAGER_COMPONENT, version=installed_version(), dry_run=dry_run, clock=SystemClock())


def _wait(stopped: Callable[[], bool], clock: Clock) -> None:
    while not stopped():
        clock.sleep_seconds(0.2)


def _callers(settings: ManagerSettings, run: RunSettings, cluster: Cluster | None, clock: Clock) -> Callers:
    if run.tokens is not None:
        return TokenFile(run.tokens, option="--tokens")
    if cluster is None:
        raise InputError("nobody says who callers are: give --tokens FILE, or a cluster")
    return KubernetesCallers(
        cluster, clock, audience=settings.audience, resource=names.JOB_RESOURCE, component=names.MANAGER_COMPONENT
    )


def _leadership(
    run: RunSettings, cluster: Cluster | None, database: Engine, clock: Clock, log: Log,
    stack: contextlib.ExitStack,
) -> Leadership:  # fmt: skip
    if cluster is not None:
        election = LeaderElection(
            cluster, clock, log, namespace=run.namespace, name=names.MANAGER_COMPONENT, identity=run.identity
        )
        return stack.enter_context(election)
    leadership = DatabaseLeadership(database, clock, log, identity=run.identity)
    stack.callback(leadership.give_up)
    return leadership


__all__ = ["Outside", "manager_log", "run_manager"]
