"""Wires the leases: their book, their cards, their callers and their HTTP server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import prometheus_client as prometheus

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.exporter_scrape import HttpExporters
from helpers.adapters.kubernetes_callers import KubernetesCallers
from helpers.adapters.lease_metrics import PrometheusLeaseMetrics
from helpers.adapters.metrics import ListenAddress
from helpers.adapters.process import Loops, Pulse
from helpers.adapters.queued_events import QueuedEvents
from helpers.adapters.redis_.leases import RedisLeases
from helpers.adapters.token_file import TokenFile
from helpers.apps.coordinator.lease_api import lease_api
from helpers.apps.coordinator.settings import RunSettings
from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.domain.leases.facts import LaneUse
from helpers.domain.leases.settings import LeaseSettings
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.leadership import Leadership
from helpers.ports.leases import Callers
from helpers.ports.log import Log
from helpers.services.lease_cards import LeaseCards
from helpers.services.lease_events import LeaseEvents
from helpers.services.leases import LeaseKeeper, LeasePorts

# Longer than a turn in which Redis does not answer at all.
STUCK_AFTER_SECONDS = 60.0


@dataclass(frozen=True)
class LeaseWorld:
    """What the leases share with the coordinator."""

    settings: CoordinatorSettings
    run: RunSettings
    url: str
    cluster: Cluster | None
    leadership: Leadership
    registry: prometheus.CollectorRegistry
    clock: Clock
    log: Log
    stopped: Callable[[], bool]
    loops: Loops


def run_leases(
    world: LeaseWorld,
    leases: LeaseSettings,
    lane_uses: Callable[[], tuple[LaneUse, ...] | None],
    stack: contextlib.ExitStack,
) -> tuple[LeaseKeeper, Pulse]:
    """Starts all of it; `stack` ends it. Gives the keeper, and the pulse of its loop.

    Raises:
        InputError: an address cannot be used, or callers cannot be known.
    """
    settings, clock, log = world.settings, world.clock, world.log
    callers = _callers(world, leases)
    store = RedisLeases(world.url, log)
    stack.callback(store.close)
    exporters = HttpExporters(clock)
    stack.callback(exporters.close)
    cards = LeaseCards(exporters, leases.nodes, clock, log)
    pairs = [(rule.lane.tenant, rule.name) for rule in settings.lanes if leases.holder(rule.lane.tenant) is not None]
    ports = LeasePorts(
        store=store,
        cards=cards,
        lane_uses=lane_uses,
        leadership=world.leadership,
        metrics=PrometheusLeaseMetrics(world.registry, pairs),
        events=LeaseEvents(_events(world, stack)),
        clock=clock,
        log=log,
    )
    keeper = LeaseKeeper(ports, leases, settings.lanes)
    keeper.turn()  # the lanes know from their first look what leases hold
    pulse = Pulse(world.stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)
    world.loops.start("lease-cards", cards.run, world.stopped)
    world.loops.start("leases", keeper.run, pulse.stop)
    api = lease_api(keeper, callers, leases, log)
    address = ListenAddress.parse(world.run.lease_address)
    served = asgi_served(
        api, address, name="lease-api", option="--lease-address", tls_folder=world.run.lease_tls_folder
    )
    port = stack.enter_context(served)
    log.info("leases_served", address=world.run.lease_address, port=port)
    return keeper, pulse


def _callers(world: LeaseWorld, leases: LeaseSettings) -> Callers:
    if world.run.lease_tokens is not None:
        return TokenFile(world.run.lease_tokens)
    if world.cluster is None:
        raise InputError(
            "coordinator.leases outside Kubernetes: nobody says whose a token is. Give --lease-tokens FILE, "
            "or take the leases out of the estate."
        )
    return KubernetesCallers(world.cluster, world.clock, audience=leases.audience)


def _events(world: LeaseWorld, stack: contextlib.ExitStack) -> QueuedEvents | None:
    if world.cluster is None:
        return None
    component, instance = names.COORDINATOR_COMPONENT, world.run.identity
    events = KubernetesEvents(world.cluster, component=component, instance=instance, clock=world.clock, log=world.log)
    return stack.enter_context(QueuedEvents(events, world.log))
