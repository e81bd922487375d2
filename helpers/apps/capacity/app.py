"""Wires ports to adapters for the three modes. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import os
import socket

from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.lease import LeaderElection
from helpers.adapters.logging_ import JsonLog, failure_logged
from helpers.adapters.metrics import ListenAddress, PrometheusCapacityMetrics, new_registry, served
from helpers.adapters.process import Pulse, installed_version, stopped_by_signal
from helpers.apps.capacity.settings import WatchSettings
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings
from helpers.ports.cluster import Cluster
from helpers.ports.log import Log
from helpers.services.capacity import CapacityReport, assert_capacity, unset_capacity
from helpers.services.capacity_watch import WatchPorts, watch_capacity

COMPONENT = names.FIELD_MANAGER_CAPACITY
# Longer than the longest pause between retries with several requests that time out around it.
STUCK_AFTER_SECONDS = 180.0


def run_assert(cluster: Cluster, settings: CapacitySettings, *, dry_run: bool = False) -> CapacityReport:
    """Advertises once, on every node; logs each act.

    Raises:
        CheckFailed: at least one node could not be done; the others were.
        ClusterError: the API refused or did not answer.
    """
    log = capacity_log(dry_run=dry_run)
    _log_start(log, "assert", settings)
    with failure_logged(log):
        return assert_capacity(cluster, settings, events=_events(cluster, log), log=log, dry_run=dry_run)


def run_unset(cluster: Cluster, settings: CapacitySettings, *, dry_run: bool = False) -> CapacityReport:
    """Takes the number off every node that carries ours.

    Raises:
        ClusterError: the API refused or did not answer.
    """
    log = capacity_log(dry_run=dry_run)
    _log_start(log, "unset", settings)
    with failure_logged(log):
        return unset_capacity(cluster, settings, events=_events(cluster, log), log=log, dry_run=dry_run)


def run_watch(cluster: Cluster, settings: CapacitySettings, watch: WatchSettings) -> None:
    """Keeps the numbers until SIGTERM or SIGINT; what is in hand then is finished, the lease given up.

    Raises:
        InputError: the metrics address cannot be used.
        Forbidden: a permission is missing; the message names it.
    """
    log, clock = capacity_log(dry_run=watch.dry_run), SystemClock()
    _log_start(log, "watch", settings, **watch.model_dump())
    registry = new_registry(COMPONENT, installed_version())
    election = LeaderElection(
        cluster, clock, log, namespace=watch.namespace, name=names.CAPACITY_LEASE, identity=watch.identity
    )
    with failure_logged(log), contextlib.ExitStack() as stack:
        stopped = stack.enter_context(stopped_by_signal())
        pulse = Pulse(stopped.is_set, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)
        if watch.metrics_address:
            address = ListenAddress.parse(watch.metrics_address)
            port = stack.enter_context(served(registry, address, pulse.is_felt))
            log.info("metrics_served", address=watch.metrics_address, port=port)
        ports = WatchPorts(
            cluster=cluster,
            leadership=stack.enter_context(election),
            events=_events(cluster, log),
            metrics=PrometheusCapacityMetrics(registry),
            clock=clock,
            log=log,
        )
        watch_capacity(
            ports,
            settings,
            stop=pulse.stop,
            dry_run=watch.dry_run,
            full_check_seconds=watch.full_check_seconds,
        )


def capacity_log(*, dry_run: bool) -> JsonLog:
    """The component's log."""
    return JsonLog(COMPONENT, version=installed_version(), dry_run=dry_run, clock=SystemClock())


def _events(cluster: Cluster, log: Log) -> KubernetesEvents:
    instance = f"{socket.gethostname()}_{os.getpid()}"
    return KubernetesEvents(cluster, component=COMPONENT, instance=instance, clock=SystemClock(), log=log)


def _log_start(log: Log, mode: str, settings: CapacitySettings, **more: object) -> None:
    log.info("started", mode=mode, settings=settings.model_dump(mode="json"), **more)
