"""`gpumem dra-agent`: per-card budgets on this node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import cluster_options, connect_cluster, dry_run_option, load_app, parse_settings
from helpers.domain.dra.settings import DraAgentSettings
from helpers.domain.errors import InputError

# Options may also come from the environment, as `GPUMEM_DRA_NODE_NAME` from the downward API.
_CONTEXT = {"auto_envvar_prefix": "GPUMEM_DRA"}


def _option(flag: str, text: str, **more: Any) -> Callable[[Any], Any]:
    """An option with the default that stands in the settings."""
    field = DraAgentSettings.model_fields[flag.removeprefix("--").replace("-", "_")]
    return click.option(flag, type=field.annotation, default=field.default, show_default=True, help=text, **more)


@click.group("dra-agent")
def dra_agent() -> None:
    """The node agent of per-card budgets (Dynamic Resource Allocation)."""


@dra_agent.command("run", context_settings=_CONTEXT)
@cluster_options
@dry_run_option
@click.option("--node-name", required=True, help="This node, as the cluster calls it.")
@click.option("--reserve-mib", type=int, help="Kept from every card; otherwise NVML's own reserved part.")
@click.option(
    "--reserve-by-model",
    "reserve_by_model_mib",
    multiple=True,
    metavar="MODEL=MIB",
    allow_from_autoenv=False,  # a variable's text would be split at the blanks of a model's name
    help="The same for one model, by nvidia-smi's name.",
)
@click.option("--mig-reserve-mib", type=int, help="Kept from every MIG device; otherwise its own reserved part.")
@click.option(
    "--mig-profile", "mig_profiles", multiple=True, help="A profile to publish; otherwise all that are there."
)
@_option("--plugin-dir", "Checkpoint, lock and socket; on a disk that survives a reboot.")
@_option("--registry-dir", "Where the kubelet looks for plugins.")
@_option("--cdi-dir", "Where the container runtime looks for CDI specifications.")
@_option("--metrics-address", "HOST:PORT of /metrics, /healthz and /readyz; port 0: a free one; empty: none.")
@_option("--interval-seconds", "Between two looks at the cards.")
@_option("--nvml-deadline-seconds", "Longest wait for all cards together.")
@_option("--lock-wait-seconds", "How long to wait for the end of the agent before this one.")
@click.option("--forget-xids", is_flag=True, help="After a card was reset: drop its hardware errors.")
def dra_agent_run(kubeconfig: Path | None, context: str | None, **given: Any) -> None:
    """Publish this node's cards and prepare claims until stopped; a variable for each flag: GPUMEM_DRA_NODE_NAME."""
    given["reserve_by_model_mib"] = dict(map(_model_reserve, given["reserve_by_model_mib"]))
    named = {key: value for key, value in given.items() if value is not None}
    app: Any = load_app("dra_agent")
    settings = parse_settings(DraAgentSettings, named, "dra-agent run")
    cluster = connect_cluster(kubeconfig, context, log=app.agent_log(dry_run=settings.dry_run))
    app.run_agent(cluster, settings)


def _model_reserve(text: str) -> tuple[str, int]:
    model, equals, mib = text.rpartition("=")
    if not equals or not model or not mib.isdigit():
        raise InputError(f'--reserve-by-model {text!r} is not MODEL=MIB, such as "Tesla T4=1360"')
    return model, int(mib)
