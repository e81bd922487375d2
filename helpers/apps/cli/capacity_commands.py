"""Commands on the nodes' number: capacity assert, watch, unset; and verify, the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    dry_run_option,
    estate_option,
    load_app,
    parse_settings,
    read_estate,
    step_input,
    step_option,
)
from helpers.apps.cli.output import coloured, emit_data, output_option
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, capacity_settings
from helpers.domain.errors import ExitCode, InputError
from helpers.services.capacity import CapacityReport

settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The capacity document (the ConfigMap's capacity.json) instead of the estate.",
)


def _settings(estate_file: Path, settings_file: Path | None, *, step: bool) -> CapacitySettings:
    """From the Terraform step, the mounted document or the estate, in this order."""
    if step:
        return _parse(str(step_input().get("capacity", "")), f"${names.ENV_STEP}: capacity")
    if settings_file is not None:
        settings: CapacitySettings = load_app("capacity").read_capacity_settings(settings_file)
        return settings
    return capacity_settings(read_estate(estate_file))


def _parse(text: str, source: str) -> CapacitySettings:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: not JSON: {error}. Render the estate again.") from error
    return parse_settings(CapacitySettings, value, source)


def _say(report: CapacityReport) -> None:
    for line in report.lines():
        click.echo(line)
    if not report.actions:
        click.echo("no node to write to")


@click.group()
def capacity() -> None:
    """The number that nodes advertise."""


@capacity.command("assert")
@estate_option
@settings_option
@step_option
@cluster_options
@dry_run_option
def capacity_assert(
    estate_file: Path,
    settings_file: Path | None,
    step: bool,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
) -> None:
    """Write every node's number, or find it there already."""
    settings = _settings(estate_file, settings_file, step=step)
    _say(load_app("capacity").run_assert(connect_cluster(kubeconfig, context), settings, dry_run=dry_run))


@capacity.command("watch")
@estate_option
@settings_option
@cluster_options
@dry_run_option
@click.option(
    "--namespace",
    envvar=names.ENV_NAMESPACE,
    help="Where the Lease lives; otherwise the estate's namespace.  [with --settings: required]",
)
@click.option(
    "--metrics-address",
    default=f"127.0.0.1:{names.CAPACITY_METRICS_PORT}",
    show_default=True,
    help="HOST:PORT of /metrics; port 0: a free one; empty: none.",
)
def capacity_watch(
    estate_file: Path,
    settings_file: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
    namespace: str | None,
    metrics_address: str,
) -> None:
    """Keep every node's number there until stopped; writes within a second of a node's return."""
    if namespace is None:
        if settings_file is not None:
            raise click.UsageError(f"--settings needs --namespace (or ${names.ENV_NAMESPACE}): where the Lease lives")
        namespace = read_estate(estate_file).namespace
    settings = _settings(estate_file, settings_file, step=False)
    app: Any = load_app("capacity")
    watch = app.WatchSettings(namespace=namespace, metrics_address=metrics_address, dry_run=dry_run)
    cluster = connect_cluster(kubeconfig, context, log=app.capacity_log(dry_run=dry_run))
    app.run_watch(cluster, settings, watch)


@capacity.command("unset")
@estate_option
@settings_option
@step_option
@cluster_options
@dry_run_option
def capacity_unset(
    estate_file: Path,
    settings_file: Path | None,
    step: bool,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
) -> None:
    """Take the number off every node; pods that run stay."""
    if step:
        rest: dict[str, Any] = {"kubernetes_version": "", "label_prefix": "", "drain": False, "nodes": []}
        value = {**rest, "resource": step_input().get("resource")}
        settings = parse_settings(CapacitySettings, value, f"${names.ENV_STEP}")
    else:
        settings = _settings(estate_file, settings_file, step=False)
    _say(load_app("capacity").run_unset(connect_cluster(kubeconfig, context), settings, dry_run=dry_run))


@click.command()
@estate_option
@step_option
@cluster_options
@output_option
@click.option("--wait", "wait_seconds", type=click.FloatRange(min=0), default=0, help="Seconds to wait for it.")
def verify(
    estate_file: Path, step: bool, kubeconfig: Path | None, context: str | None, output: str, wait_seconds: float
) -> int:
    """Check that every node shows its number (the gate). Exit 1 names each node and what it lacks."""
    from helpers.adapters.clock import SystemClock
    from helpers.services.gate import verify as verify_nodes

    if step:
        wait_seconds = _wait_seconds(step_input())
    settings = _settings(estate_file, None, step=step)
    missing = verify_nodes(connect_cluster(kubeconfig, context), settings, SystemClock(), wait_seconds)
    data = {"ready": not missing, "missing": [vars(shortfall) for shortfall in missing]}
    if not emit_data(data, output):
        for shortfall in missing:
            click.echo(f"gate closed: {shortfall.message()}", err=True)
        if not missing:
            numbers = [f"{node.name} {node.advertised_mib}" for node in settings.nodes]
            cards = [f"{node.name} {' + '.join(map(str, node.cards_mib))}" for node in settings.claim_nodes]
            if numbers:
                click.echo(coloured("every node shows its number", "green") + f" ({', '.join(numbers)} MiB a node)")
            if cards:
                click.echo(coloured("every node offers its cards", "green") + f" ({', '.join(cards)} MiB)")
    return int(ExitCode.CHECK_FAILED if missing else ExitCode.OK)


def _wait_seconds(step: dict[str, Any]) -> float:
    text = step.get("wait_seconds")
    try:
        return float(str(text))
    except ValueError as error:
        raise InputError(f"${names.ENV_STEP}: wait_seconds = {text!r}: a number of seconds") from error
