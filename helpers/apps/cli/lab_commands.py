"""`gpumem lab`: the embedded cluster. The lab is no part of a wheel, so it is imported lazily."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import estate_option, find_tenant, read_estate, tenant_argument
from helpers.apps.cli.output import emit_data, output_option, table
from helpers.domain.errors import DependencyError

lab_name_option = click.option("--lab", "name", default="default", show_default=True, help="The lab's name.")


def _lab_module(name: str) -> Any:
    try:
        return importlib.import_module(f"lab.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "lab":
            raise DependencyError("gpumem lab: not in this install; it comes with a checkout of the project") from error
        raise


def _running(name: str) -> Any:
    return _lab_module("cluster").get(name)


def _progress() -> Any:
    started = time.monotonic()
    return lambda line: click.echo(f"{time.monotonic() - started:5.1f}s  {line}", err=True)


@click.group()
def lab() -> None:
    """The embedded cluster: real Kubernetes with simulated GPU nodes, on loopback."""


@lab.command("up")
@lab_name_option
@estate_option
@click.option("--no-nodes", is_flag=True, help="Only the control plane; add nodes with `gpumem lab node add`.")
def lab_up(name: str, estate_file: Path, no_nodes: bool) -> None:
    """Start the lab with the estate's nodes. The first run builds its programs, which takes minutes."""
    nodes = [] if no_nodes else _lab_module("estate_nodes").nodes_of_estate(read_estate(estate_file))
    started = _lab_module("cluster").up(name, nodes, progress=_progress())
    click.echo(f"export KUBECONFIG={os.path.relpath(started.kubeconfig)}")


@lab.command("down")
@lab_name_option
def lab_down(name: str) -> None:
    """Stop the lab and remove everything but its logs."""
    gone = _lab_module("cluster").down(name)
    click.echo(f"lab {name!r} is down" if gone else f"no lab {name!r} was up")


@lab.command("status")
@lab_name_option
@output_option
def lab_status(name: str, output: str) -> None:
    """Show whether the lab is up, its kubeconfig, nodes and Terraform providers."""
    status = _lab_module("cluster").status(name)
    if emit_data(status, output):
        return
    click.echo(f"lab {name!r}: {'ready' if status['ready'] else 'not up'}")
    for key in ("kubeconfig", "kubernetes", "providers", "logs"):
        click.echo(f"{key:<11} {status[key]}")
    if status["nodes"]:
        click.echo(table([{k: str(v) for k, v in node.items()} for node in status["nodes"]], output))


@lab.group("usage")
def lab_usage() -> None:
    """What the simulated pods use of their cards."""


@lab_usage.command("set")
@lab_name_option
@estate_option
@tenant_argument()
@click.argument("mib", type=click.IntRange(min=0))
def lab_usage_set(name: str, estate_file: Path, tenant: str, mib: int) -> None:
    """Let every running pod of TENANT use MIB of GPU memory."""
    found = find_tenant(read_estate(estate_file), tenant)
    pods = _running(name).set_usage(found.namespace, found.workload.name, mib)
    click.echo(f"{tenant}: {mib} MiB each in {', '.join(pods)}")


@lab_usage.command("show")
@lab_name_option
@output_option
def lab_usage_show(name: str, output: str) -> None:
    """Show what each simulated pod uses."""
    usage = {pod: vars(used) for pod, used in sorted(_running(name).read_usage().items())}
    if not emit_data(usage, output):
        rows = [{"pod": pod, **{key: str(value) for key, value in used.items()}} for pod, used in usage.items()]
        click.echo(table(rows, output) or "nothing is in use")


@lab.group("node")
def lab_node() -> None:
    """Simulated machines."""


@lab_node.command("add")
@lab_name_option
@estate_option
@click.option("--kind", "entry", required=True, metavar="ENTRY", help="The entry under nodes that it is a machine of.")
@click.argument("node")
def lab_node_add(name: str, estate_file: Path, entry: str, node: str) -> None:
    """Add the machine NODE."""
    module = _lab_module("estate_nodes")
    _running(name).node_add(module.node_of_kind(read_estate(estate_file), entry, node))
    click.echo(f"node {node} joined")


@lab_node.command("remove")
@lab_name_option
@click.argument("node")
def lab_node_remove(name: str, node: str) -> None:
    """Take the machine NODE away."""
    _running(name).node_remove(node)
    click.echo(f"node {node} is gone")


@lab_node.command("reregister")
@lab_name_option
@click.argument("node")
def lab_node_reregister(name: str, node: str) -> None:
    """Delete the Node object of NODE and let its kubelet register again, as after a long outage."""
    _running(name).node_reregister(node)
    click.echo(f"node {node} registered again")
