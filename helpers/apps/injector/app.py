"""Wires ports to adapters. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable

from helpers.adapters.certificates import X509Certificates
from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.injector_metrics import PrometheusInjectorMetrics
from helpers.adapters.logging_ import JsonLog, failure_logged, threads_log
from helpers.adapters.metrics import ListenAddress, new_registry, served
from helpers.adapters.process import installed_version, stopped_by_signal
from helpers.adapters.webhook_server import WebhookServer
from helpers.apps.injector.settings import RunSettings
from helpers.apps.injector.threads import Keeping, Threads
from helpers.domain import names
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.admission_review import OUTCOMES, AdmissionReviews, Rules
from helpers.services.certificates import ACTS, KeeperPorts, KeeperSettings
from helpers.services.serving_certificate import ServedCertificate, follow

STOP_ASKED_EVERY_SECONDS = 0.1


def run_injector(cluster: Cluster, rules: Rules, run: RunSettings, *, stop: Callable[[], bool] | None = None) -> None:
    """Serves until SIGTERM or SIGINT (or `stop()`).

    A right that is missing, or an API server that does not answer, ends nothing: the certificate that
    is there goes on being served, and everything is tried again.

    Args:
        cluster: The API; its rights are `domain.admission.rights`.
        rules: What is done to a pod.
        run: How this process runs.
        stop: In place of the signals, for a caller that is not the main thread.

    Raises:
        InputError: an address cannot be used.
    """
    clock, certificates, log = SystemClock(), X509Certificates(), injector_log(dry_run=run.dry_run)
    log.info("started", run=run.model_dump(mode="json"))
    registry = new_registry(names.INJECTOR_COMPONENT, installed_version())
    metrics = PrometheusInjectorMetrics(registry, outcomes=OUTCOMES, acts=ACTS)
    served_one = ServedCertificate(
        certificates, dns_names=frozenset(run.dns_names), metrics=metrics, clock=clock, log=log
    )
    metrics.ask_readiness(served_one.ready)
    instance = f"{socket.gethostname()}_{os.getpid()}"
    events = KubernetesEvents(cluster, component=names.INJECTOR_COMPONENT, instance=instance, clock=clock, log=log)
    ports = KeeperPorts(cluster, certificates, events, metrics, clock, log)
    with failure_logged(log), contextlib.ExitStack() as stack:
        stopped = stop if stop is not None else stack.enter_context(stopped_by_signal()).is_set
        stack.enter_context(threads_log(log))
        keeping = Keeping(ports, keeper_settings(run), identity=run.identity)
        threads = stack.enter_context(Threads(keeping.wake))
        server = stack.enter_context(
            WebhookServer(
                AdmissionReviews(rules, metrics=metrics, clock=clock, log=log),
                ListenAddress.parse(run.listen_address),
                ready=served_one.ready,
                drain_seconds=run.drain_seconds,
            )
        )
        log.info("webhook_served", address=run.listen_address, port=server.port)
        if run.metrics_address:
            address = ListenAddress.parse(run.metrics_address)
            well = lambda: server.alive() and threads.alive()  # noqa: E731
            port = stack.enter_context(served(registry, address, well, served_one.ready))
            log.info("metrics_served", address=run.metrics_address, port=port)
        _start(threads, ports, run, keeping, lambda secret: served_one.see(secret, server))
        # What is there now stays: the collector need not look at it again, which takes milliseconds each time.
        gc.collect()
        gc.freeze()
        while not stopped():
            time.sleep(STOP_ASKED_EVERY_SECONDS)
        log.info("stopping", drain_seconds=run.drain_seconds)


def _start(
    threads: Threads, ports: KeeperPorts, run: RunSettings, keeping: Keeping, seen: Callable[[Manifest | None], None]
) -> None:
    """Follows the Secret and, where certificates are our own, keeps them."""
    settings = keeper_settings(run)

    def secret_seen(secret: Manifest | None) -> None:
        seen(secret)
        keeping.wake()

    def configuration_seen(_: Manifest | None) -> None:
        keeping.wake()

    def followed(ref: ObjectRef, noted: Callable[[Manifest | None], None]) -> Callable[[Callable[[], bool]], None]:
        return lambda stop: follow(ports.cluster, ref, noted, stop=stop, log=ports.log)

    # A watch says nothing of an object that is not there, and whoever waits for it should read what for.
    ports.log.info("certificate_awaited", secret=str(settings.secret_ref), made_by=run.certificates)
    threads.start("secret", followed(settings.secret_ref, secret_seen))
    if run.certificates == "self":
        threads.start("configuration", followed(settings.configuration_ref, configuration_seen))
        threads.start("keeper", keeping.run)


def keeper_settings(run: RunSettings) -> KeeperSettings:
    """What the keeper goes by."""
    return KeeperSettings(
        namespace=run.namespace,
        secret=run.secret,
        configuration=run.configuration,
        dns_names=frozenset(run.dns_names),
        lifetime_seconds=run.lifetime_seconds,
        settle_seconds=run.settle_seconds,
        dry_run=run.dry_run,
    )


def injector_log(*, dry_run: bool) -> JsonLog:
    """The component's log."""
    return JsonLog(names.INJECTOR_COMPONENT, version=installed_version(), dry_run=dry_run, clock=SystemClock())
