"""Wires ports to adapters. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.exporter_scrape import HttpExporters, parse_target
from helpers.adapters.logging_ import JsonLog, failure_logged, threads_log
from helpers.adapters.metrics import ListenAddress, new_registry, served
from helpers.adapters.process import Pulse, installed_version, stopped_by_signal
from helpers.adapters.queued_events import QueuedEvents
from helpers.adapters.release_hook import TenantReleaseHooks
from helpers.adapters.trace_file import TraceFile
from helpers.adapters.watchdog_lease import WATCHDOG_LEASE_TIMES, LeaseActs, WatchdogElection
from helpers.adapters.watchdog_metrics import PrometheusWatchdogMetrics
from helpers.apps.watchdog.settings import RunSettings
from helpers.domain.memory import BYTES_PER_MIB
from helpers.domain.watchdog.rights import WATCHDOG_COMPONENT, WATCHDOG_LEASE
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.cluster import Cluster
from helpers.ports.log import Log
from helpers.ports.pod_commands import PodCommands
from helpers.services.watchdog import Watchdog, WatchdogPorts
from helpers.services.watchdog_pods import PodReading
from helpers.services.watchdog_targets import DiscoveredTargets, ExplicitTargets, Targets

# Longer than any pass with every exporter stalled and the API timing out around it.
STUCK_AFTER_SECONDS = 120.0


def run_watchdog(
    cluster: Cluster,
    settings: WatchdogSettings,
    run: RunSettings,
    *,
    commands: PodCommands | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Watches until SIGTERM or SIGINT (or `stop()`); an act in hand is left to the next leader, whole.

    Args:
        cluster: The API; its rights are `domain.watchdog.rights`.
        settings: When and how a tenant is recycled.
        run: How this process runs.
        commands: Runs release hooks that are commands; needed with `settings.allow_exec`.
        stop: In place of the signals, for a caller that is not the main thread.

    Raises:
        InputError: an address, an exporter or the trace file cannot be used.
        Forbidden: a permission is missing; the message names it.
    """
    clock = SystemClock()
    log = watchdog_log(dry_run=settings.dry_run)
    log.info("started", settings=settings.model_dump(mode="json"), run=run.model_dump(mode="json"))
    registry = new_registry(WATCHDOG_COMPONENT, installed_version())
    with failure_logged(log), contextlib.ExitStack() as stack:
        stopped = stop if stop is not None else stack.enter_context(stopped_by_signal()).is_set
        # Watches and acts ask, too, and say nothing about the loop.
        pulse = Pulse(stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS, own_thread_only=True)
        stack.enter_context(threads_log(log))
        if run.metrics_address:
            port = stack.enter_context(served(registry, ListenAddress.parse(run.metrics_address), pulse.is_felt))
            log.info("metrics_served", address=run.metrics_address, port=port)
        exporters = HttpExporters(clock, deadline_seconds=run.scrape_deadline_seconds)
        stack.callback(exporters.close)
        lock = threading.RLock()
        election = WatchdogElection(
            cluster,
            clock,
            log,
            namespace=run.namespace,
            name=WATCHDOG_LEASE,
            identity=run.identity,
            times=WATCHDOG_LEASE_TIMES,
            lock=lock,
        )
        instance = f"{socket.gethostname()}_{os.getpid()}"
        events = KubernetesEvents(cluster, component=WATCHDOG_COMPONENT, instance=instance, clock=clock, log=log)
        ports = WatchdogPorts(
            cluster=cluster,
            leadership=stack.enter_context(election),
            exporters=exporters,
            targets=_targets(cluster, run),
            acts=LeaseActs(
                cluster,
                namespace=run.namespace,
                name=WATCHDOG_LEASE,
                identity=run.identity,
                label_prefix=run.label_prefix,
                lock=lock,
            ),
            hooks=TenantReleaseHooks(commands),
            events=stack.enter_context(QueuedEvents(events, log)),
            metrics=PrometheusWatchdogMetrics(registry),
            clock=clock,
            log=log,
            recorder=_recorder(run, log),
        )
        reading = PodReading(settings, run.resource, run.label_prefix, run.claims_driver)
        Watchdog(ports, settings, reading, stop=pulse.stop).run()


def watchdog_log(*, dry_run: bool) -> JsonLog:
    """The component's log."""
    return JsonLog(WATCHDOG_COMPONENT, version=installed_version(), dry_run=dry_run, clock=SystemClock())


def _targets(cluster: Cluster, run: RunSettings) -> Targets:
    if run.exporters:
        return ExplicitTargets(frozenset(parse_target(text) for text in run.exporters))
    return DiscoveredTargets(cluster, namespace=run.namespace, service=run.exporter_service)


def _recorder(run: RunSettings, log: Log) -> TraceFile | None:
    if run.record is None:
        return None
    limit_bytes = run.record_limit_mib * BYTES_PER_MIB
    return TraceFile(run.record, log, limit_bytes=limit_bytes, interval_seconds=run.record_interval_seconds)
