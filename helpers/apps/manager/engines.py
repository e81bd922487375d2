"""Which engine the settings mean. The one place where an engine's name becomes an engine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.job_engines.engine import JobCluster, JobObjects
from helpers.adapters.job_engines.kueue import KueueEngine
from helpers.adapters.job_engines.native import NativeEngine
from helpers.adapters.job_engines.volcano import VolcanoEngine
from helpers.adapters.job_utilisation import PrometheusUtilisation
from helpers.adapters.prometheus_api import PrometheusApi
from helpers.adapters.queued_events import QueuedEvents
from helpers.domain import names
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.job_engine import JobEngine
from helpers.ports.log import Log
from helpers.ports.manager_metrics import JobUtilisation
from helpers.ports.pod_commands import PodCommands

_ENGINES = {engine.name: engine for engine in (NativeEngine, KueueEngine, VolcanoEngine)}


def utilisation_of(settings: ManagerSettings) -> JobUtilisation | None:
    """Who measures what jobs do with their GPUs; None: nobody, and no job is idle."""
    if settings.prometheus_url is None:
        return None
    queries = PrometheusApi(settings.prometheus_url)
    return PrometheusUtilisation(queries, SystemClock(), span_seconds=float(settings.idle_seconds))


@contextlib.contextmanager
def engine_of(
    settings: ManagerSettings,
    cluster: JobCluster,
    log: Log,
    *,
    commands: PodCommands | None = None,
    dry_run: bool = False,
) -> Iterator[JobEngine]:
    """The engine; its watches and Events end with the context.

    `commands` None: checkpoints cannot be asked for by signal. `dry_run`: nothing is written, and all
    that is due stays due.
    """
    clock = SystemClock()
    written = KubernetesEvents(
        cluster, component=names.MANAGER_COMPONENT, instance=socket.gethostname(), clock=clock, log=log
    )
    with QueuedEvents(written, log) as events:
        objects = JobObjects(settings, cluster, events, clock, log, commands=commands, dry_run=dry_run)
        try:
            yield _ENGINES[settings.engine](settings, objects)
        finally:
            objects.stop()
