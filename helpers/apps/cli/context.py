"""Options that several commands share, and the connections made from them."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.tenants import Tenant
from helpers.ports.cluster import Cluster
from helpers.ports.log import Log
from helpers.ports.pod_commands import PodCommands
from helpers.rendering.estate_file import load_estate

Command = TypeVar("Command", bound=Callable[..., Any])
Settings = TypeVar("Settings", bound=BaseModel)


def estate_option(command: Command) -> Command:
    """`-f FILE`: the estate."""
    return click.option(
        "-f",
        "--filename",
        "estate_file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("gpumem.yaml"),
        envvar=names.ENV_ESTATE,
        show_default=True,
        help="The estate file.",
    )(command)


def cluster_options(command: Command) -> Command:
    """`--kubeconfig`, `--context`: which cluster."""
    command = click.option("--context", default=None, help="The kubeconfig context.")(command)
    return click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help="The kubeconfig; otherwise $KUBECONFIG, in-cluster, ~/.kube/config.",
    )(command)


def dry_run_option(command: Command) -> Command:
    """`--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")(command)


def settings_option(document: str) -> Callable[[Command], Command]:
    """`--settings`: the `document` of a mounted ConfigMap."""
    return click.option(
        "--settings",
        "settings_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"The mounted {document} instead of the estate.",
    )


def lease_namespace_option(command: Command) -> Command:
    """`--lease-namespace`; see `require_lease_namespace`."""
    return click.option(
        "--lease-namespace", default="", envvar=names.ENV_NAMESPACE, help="In a cluster: where the Lease is."
    )(command)


def require_lease_namespace(lease_namespace: str, *, no_kubernetes: bool) -> None:
    """In a cluster somebody has to lead.

    Raises:
        click.UsageError: neither a namespace for the Lease nor --no-kubernetes was given.
    """
    if not no_kubernetes and not lease_namespace:
        raise click.UsageError(f"give --lease-namespace (or ${names.ENV_NAMESPACE}), or --no-kubernetes")


def step_option(command: Command) -> Command:
    """`--step`: how Terraform runs this command."""
    return click.option(
        "--step", is_flag=True, help=f"Read the input from ${names.ENV_STEP} (set by Terraform) instead of the estate."
    )(command)


def tenant_argument(*, required: bool = True, several: bool = False) -> Callable[[Command], Command]:
    """`TENANT`, or `several` of them, completed from the estate."""
    if several:
        return click.argument("tenants", nargs=-1, metavar="[TENANT]...", shell_complete=_complete_tenant)
    return click.argument("tenant", required=required, shell_complete=_complete_tenant)


def _complete_tenant(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    estate_file = ctx.params.get("estate_file") or Path(os.environ.get(names.ENV_ESTATE, "gpumem.yaml"))
    try:
        estate, _ = load_estate(estate_file, allow_overcommit=True)
    except InputError:
        # A completion has nowhere to print to; the command itself will report the file.
        return []
    return [tenant.name for tenant in estate.tenants if tenant.name.startswith(incomplete)]


def read_estate(estate_file: Path, *, option: str = "-f") -> Estate:
    """The estate, its warnings on stderr. `option` is how the command at hand names it.

    The always-on arithmetic is validate's and the stacks' to refuse: an operator must be able to
    release a tenant of an estate that someone over-committed.
    """
    estate, warnings = load_estate(estate_file, allow_overcommit=True, option=option)
    for warning in warnings:
        click.echo(warning.text(), err=True)
    return estate


def find_tenant(estate: Estate, name: str) -> Tenant:
    """The tenant called `name`.

    Raises:
        InputError: there is none; names the closest.
    """
    tenant = estate.tenant(name)
    if tenant is None:
        raise InputError(f'no tenant "{name}" in the estate: {did_you_mean(name, (t.name for t in estate.tenants))}')
    return tenant


def step_input() -> dict[str, Any]:
    """The triggers of the Terraform step that runs this command.

    Raises:
        InputError: the variable is missing or holds no JSON object, or the cluster is not certain.
    """
    refuse_split_clusters()
    text = os.environ.get(names.ENV_STEP, "")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"${names.ENV_STEP} = {text!r}: --step needs the step's triggers as JSON there; Terraform sets it. "
            "Without Terraform, leave --step out and name the estate with -f."
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"${names.ENV_STEP} holds a {type(value).__name__}, not an object of triggers")
    return value


# Other variables by which the kubectl provider chooses a cluster. The steps follow KUBECONFIG alone.
_PROVIDERS_OWN = ("KUBE_CONFIG", "KUBE_CONFIG_PATH", "KUBE_CONFIG_PATHS", "KUBE_CTX", "KUBE_HOST")


def refuse_split_clusters() -> None:
    """Within Terraform, provider and step must act on one cluster.

    Raises:
        InputError: a variable could lead the kubectl provider to another one.
    """
    kubeconfig = os.environ.get("KUBECONFIG", "")
    for name in _PROVIDERS_OWN:
        value = os.environ.get(name, "")
        if value and value != kubeconfig:
            raise InputError(
                f"${name} = {value!r}: the kubectl provider would follow it and this step follows $KUBECONFIG "
                f"({kubeconfig or 'not set'}), which may be two clusters. Unset {name} and set KUBECONFIG."
            )
    if os.pathsep in kubeconfig:
        raise InputError(
            f"$KUBECONFIG = {kubeconfig!r}: the kubectl provider reads it as one path. Merge the files "
            "(`kubectl config view --flatten`) and name the result."
        )


def parse_settings(model: type[Settings], value: Any, source: str) -> Settings:
    """`value` as `model`.

    Raises:
        InputError: names `source` and every field that is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise InputError(f"{source}: {found}") from error


def connect_cluster(kubeconfig: Path | None, context: str | None, log: Log | None = None) -> Cluster:
    """The cluster; imported late because the client takes a third of a second to load. `log` hears of reconnects."""
    from helpers.adapters.kubernetes_ import connect

    return connect(kubeconfig, context, log=log)


def connect_commands(kubeconfig: Path | None, context: str | None) -> PodCommands:
    """Commands in that cluster's containers; imported late because few estates allow them."""
    from helpers.adapters.kubernetes_.commands import connect_commands as connect

    return connect(kubeconfig, context)


def load_app(name: str) -> Any:
    """One of the other apps, loaded when its command runs.

    Apps never import each other (a contract); the command line is their front door, so it finds
    them by name.
    """
    return importlib.import_module(f"helpers.apps.{name}")
