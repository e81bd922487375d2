"""Wires the demand gates: their leases, their Events and the thread that looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import prometheus_client as prometheus

from helpers.adapters.events import KubernetesEvents
from helpers.adapters.gate_metrics import PrometheusGateMetrics
from helpers.adapters.process import Loops, Pulse
from helpers.apps.coordinator.settings import RunSettings
from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.ports.cluster import Cluster
from helpers.services.coordinator import CoordinatorPorts
from helpers.services.demand_gates import GateKeeper, GatePorts
from helpers.services.gate_leases import gate_leases
from helpers.services.leases import LeaseKeeper

# Longer than one gate's look in which the API server answers nothing at all.
STUCK_AFTER_SECONDS = 90.0


@dataclass(frozen=True)
class GateWorld:
    """What the gates share with the coordinator. `keeper` None: the estate has no leases."""

    settings: CoordinatorSettings
    run: RunSettings
    cluster: Cluster | None
    registry: prometheus.CollectorRegistry
    keeper: LeaseKeeper | None
    stopped: Callable[[], bool]
    loops: Loops


def run_gates(world: GateWorld, ports: CoordinatorPorts, demands: Callable[[], Mapping[str, int]]) -> Pulse:
    """Starts them; gives the pulse of their loop.

    Raises:
        InputError: there is no cluster.
    """
    cluster, clock, log = world.cluster, ports.clock, ports.log
    if cluster is None:
        raise InputError(
            "demand_gates scale workloads, and without Kubernetes there are none: leave --no-kubernetes out, or them"
        )
    component, instance = names.COORDINATOR_COMPONENT, world.run.identity
    keeper = GateKeeper(
        GatePorts(
            cluster=cluster,
            leases=gate_leases(world.keeper, log),
            leadership=ports.leadership,
            events=KubernetesEvents(cluster, component=component, instance=instance, clock=clock, log=log),
            metrics=PrometheusGateMetrics(world.registry, [rule.name for rule in world.settings.gates]),
            clock=clock,
            log=log,
            engine=lambda rule: ports.engines.facts().get(rule.workload.tenant),
            demands=demands,
        ),
        world.settings.gates,
        dry_run=world.settings.dry_run,
    )
    pulse = Pulse(world.stopped, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)
    world.loops.start("gates", keeper.run, pulse.stop)
    return pulse
