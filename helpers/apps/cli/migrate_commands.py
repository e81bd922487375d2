"""`gpumem migrate`: from the node's number to claims on one card, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import cluster_options, connect_cluster, estate_option, read_estate
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.estate.budget_backend import CountedBy
from helpers.domain.estate.checks import check_estate
from helpers.domain.estate.model import Estate
from helpers.domain.estate.suggestion import did_you_mean
from helpers.services.migrate_facts import with_backend

_COMPONENT = "gpumem-migrate"
_OTHER: dict[CountedBy, CountedBy] = {"dra": "extendedResource", "extendedResource": "dra"}


@click.command()
@estate_option
@cluster_options
@click.option("--to", "backend", type=click.Choice(["dra", "extendedResource"]), required=True, help="The new backend.")
@click.option("--node", "kinds", multiple=True, help="The name of a node entry; otherwise all, one after the other.")
@click.option("--execute", is_flag=True, help="Do it. Otherwise the plan is printed and nothing changes.")
@click.option(
    "--field-manager",
    help="Who applies the rendered objects in this cluster; otherwise the engine of `gitops`, or Terraform.",
)
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=1), default=300, show_default=True, help="For each step."
)
def migrate(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    backend: CountedBy,
    kinds: tuple[str, ...],
    execute: bool,
    field_manager: str | None,
    wait_seconds: float,
) -> int:
    """Plan, or carry out, the move of running tenants to another backend; no card is over-committed meanwhile."""
    estate = read_estate(estate_file)
    kinds = _known(estate, kinds)
    cluster: Any = connect_cluster(kubeconfig, context)
    for kind in kinds:
        before = with_backend(estate, [kind], _OTHER[backend])
        estate = with_backend(estate, [kind], backend)
        _check(estate)
        if execute:
            _execute(cluster, before, estate, kind, backend, field_manager or estate.field_manager(), wait_seconds)
        else:
            _plan(cluster, estate, kind, backend)
    written = ", ".join(f"nodes[{kind}].budget.backend: {backend}" for kind in kinds)
    click.echo(
        f"{'Now' if execute else 'After --execute'} write {written} in {estate_file} and apply it; no tenant restarts. "
        "Then `gpumem verify` says whether the gate passes: a pod named above keeps it closed while it is there."
    )
    return int(ExitCode.OK)


def _known(estate: Estate, kinds: tuple[str, ...]) -> tuple[str, ...]:
    known = [node.name for node in estate.nodes]
    for kind in kinds:
        if kind not in known:
            raise InputError(f"--node {kind}: no such entry under nodes: {did_you_mean(kind, known)}")
    return kinds or tuple(known)


def _check(target: Estate) -> None:
    errors = [problem for problem in check_estate(target, allow_overcommit=True) if problem.severity == "error"]
    if errors:
        raise InputError("the estate would not hold with this backend:\n" + "\n".join(p.text() for p in errors))


def _plan(cluster: Any, target: Estate, kind: str, backend: CountedBy) -> None:
    from helpers.services.migrate import plan_to_claims
    from helpers.services.migrate_back import refuse_strangers
    from helpers.services.migrate_facts import missing_cards, tenant_facts

    click.echo(f"{kind} to {backend}:")
    if backend == "extendedResource":
        found = tenant_facts(cluster, target, kind)
        for facts in found:
            click.echo(f"  {facts.tenant.name}: stops, gets its budget by number, starts again when all have stopped")
        refuse_strangers(cluster, target, kind, found)
        return
    click.echo("  first the number is taken off its nodes, and every pod that it let in is held for by a claim")
    for shortfall in missing_cards(cluster, target, kind):
        click.echo(f"  not yet: {shortfall.message()}; --execute starts the agent and waits for it")
    for move in plan_to_claims(cluster, target, kind).moves:
        click.echo(f"  {move.text()}")
    click.echo(f"  back: gpumem migrate --to extendedResource --node {kind} --execute")


def _execute(
    cluster: Any,
    before: Estate,
    target: Estate,
    kind: str,
    backend: CountedBy,
    field_manager: str,
    wait_seconds: float,
) -> None:
    from helpers.adapters.clock import SystemClock
    from helpers.adapters.events import KubernetesEvents
    from helpers.adapters.logging_ import JsonLog
    from helpers.adapters.process import installed_version
    from helpers.rendering.render import render
    from helpers.services.migrate import ToClaims
    from helpers.services.migrate_back import back_to_number
    from helpers.services.migrate_hands import Hands
    from helpers.services.migrate_objects import Changes

    clock = SystemClock()
    log = JsonLog(_COMPONENT, version=installed_version(), dry_run=False, clock=clock)
    events = KubernetesEvents(cluster, component=_COMPONENT, instance="command line", clock=clock, log=log)
    hands = Hands(cluster, clock, events, log, click.echo, wait_seconds)
    changes = Changes(render(before), render(target), field_manager)
    if backend == "dra":
        ToClaims(hands, target, kind, changes).run()
    else:
        back_to_number(hands, target, kind, changes)
