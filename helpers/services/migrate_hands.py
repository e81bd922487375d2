"""The single acts of a move: apply what is rendered, stop and start a tenant, wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helpers.domain import names
from helpers.domain.budget import workload_identity
from helpers.domain.demand_gates.rules import is_gated
from helpers.domain.dra.migration import TenantFacts
from helpers.domain.errors import CheckFailed, Conflict
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.ports.events import Events
from helpers.ports.log import Log
from helpers.rendering.objects import RenderedObject
from helpers.services.migrate_facts import migrating_annotation
from helpers.services.release import release, restore

_POLL_SECONDS = 0.5
_SCALABLE = ("Deployment", "StatefulSet")


@dataclass(frozen=True)
class Hands:
    """What a move works with. `wait_seconds`: for cards, for pods to end, for new ones to get their place."""

    cluster: Cluster
    clock: Clock
    events: Events
    log: Log
    say: Callable[[str], None]
    wait_seconds: float = 300.0


def apply_rendered(cluster: Cluster, item: RenderedObject, field_manager: str, *, dry_run: bool = False) -> None:
    """What the next apply would write, as its writer, so that it finds nothing to do there.

    Raises:
        CheckFailed: somebody else owns a field with another value.
    """
    try:
        cluster.apply(item.manifest, field_manager=field_manager, dry_run=dry_run)
    except Conflict as conflict:
        raise CheckFailed(
            f"{item.address}: {conflict}. Whoever applies the rendered objects here is not {field_manager}: name it "
            "with --field-manager (argocd-controller, kustomize-controller), and pause its sync meanwhile."
        ) from conflict


def stop(hands: Hands, estate: Estate, tenant: Tenant) -> None:
    """Scales it to zero, marked as stopped by a move."""
    annotation = migrating_annotation(estate.label_prefix)
    _annotate(hands.cluster, tenant, annotation, "true")
    gated = is_gated(estate, tenant.name)
    hands.say(release(hands.cluster, workload_identity(tenant), estate.label_prefix, gated=gated).message)


def start(hands: Hands, estate: Estate, tenant: Tenant) -> None:
    """Scales it back, and takes the mark off."""
    gated = is_gated(estate, tenant.name)
    hands.say(restore(hands.cluster, workload_identity(tenant), estate.label_prefix, gated=gated).message)
    _annotate(hands.cluster, tenant, migrating_annotation(estate.label_prefix), None)


def wait(hands: Hands, done: Callable[[], bool], problem: Callable[[], str], *, progress: bool = False) -> None:
    """Until `done`; with `progress` it says what is waited for, each time that it changes.

    Raises:
        CheckFailed: not within the time; says what `problem` says.
    """
    until = hands.clock.monotonic_seconds() + hands.wait_seconds
    said = ""
    while not done():
        if progress and (text := problem()) != said:
            said = text
            hands.say(f"waiting: {text}")
        if hands.clock.monotonic_seconds() >= until:
            raise CheckFailed(f"{problem()} after {hands.wait_seconds:g} s. Nothing is lost: run it again, or go back.")
        hands.clock.sleep_seconds(_POLL_SECONDS)


def stops(facts: TenantFacts) -> bool:
    """Whether it is scaled to zero in between: a DaemonSet replaces its pods itself, and who has none needs nothing."""
    return facts.tenant.workload.kind in _SCALABLE and (facts.stopped or bool(facts.replicas))


def _annotate(cluster: Cluster, tenant: Tenant, annotation: str, value: str | None) -> None:
    identity = workload_identity(tenant)
    ref = ObjectRef("apps/v1", identity.kind, identity.workload, identity.namespace)
    patch = {"metadata": {"annotations": {annotation: value}}}
    cluster.merge_patch(ref, patch, field_manager=names.FIELD_MANAGER_RELEASE)
