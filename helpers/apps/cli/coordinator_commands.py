"""`gpumem coordinator run`: which job queue in front of a card may run now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    dry_run_option,
    estate_option,
    lease_namespace_option,
    load_app,
    read_estate,
    require_lease_namespace,
    settings_option,
)
from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings


@click.group()
def coordinator() -> None:
    """Pause batch queues while realtime ones work, and outside their hours."""


@coordinator.command("run")
@estate_option
@cluster_options
@settings_option("coordinator.json")
@lease_namespace_option
@click.option("--no-kubernetes", is_flag=True, help="A plain process: a key in Redis says who leads.")
@click.option(
    "--address",
    default=f"127.0.0.1:{names.COORDINATOR_PORT}",
    show_default=True,
    help="HOST:PORT of /v1/status and /metrics; empty: none.",
)
@click.option(
    "--lease-address",
    default=f"127.0.0.1:{names.LEASES_PORT}",
    show_default=True,
    help="HOST:PORT of /v1/leases, where the estate has leases.",
)
@click.option(
    "--lease-tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Who may ask for leases, where no API server says so: lines of TOKEN USER TENANT[,TENANT...].",
)
@click.option(
    "--lease-tls",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of tls.crt and tls.key for /v1/leases; without it, plain HTTP.",
)
@click.option(
    "--clients-folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=names.ENV_BULLMQ_CLIENTS,
    help="Holds v4, v5 and v6 with BullMQ in their node_modules; otherwise the program's own folder.",
)
@dry_run_option
def coordinator_run(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    settings_file: Path | None,
    lease_namespace: str,
    no_kubernetes: bool,
    address: str,
    lease_address: str,
    lease_tokens: Path | None,
    lease_tls: Path | None,
    clients_folder: Path | None,
    dry_run: bool,
) -> None:
    """Coordinate until stopped. Passwords come from the variables that the estate names."""
    app: Any = load_app("coordinator")
    settings = app.read_coordinator_settings(settings_file) if settings_file is not None else _of_estate(estate_file)
    if dry_run:
        settings = settings.model_copy(update={"dry_run": True})
    require_lease_namespace(lease_namespace, no_kubernetes=no_kubernetes)
    run = app.RunSettings(
        namespace=lease_namespace,
        address=address,
        lease_address=lease_address,
        lease_tokens=lease_tokens,
        lease_tls_folder=lease_tls,
        clients_folder=clients_folder,
        redis_password=os.environ.get(settings.redis.password_env, ""),
        immich_api_key=os.environ.get(settings.immich.api_key_env, "") if settings.immich else "",
    )
    cluster = None if no_kubernetes else connect_cluster(kubeconfig, context, log=app.coordinator_log())
    app.run_coordinator(settings, run, cluster)


def _of_estate(estate_file: Path) -> CoordinatorSettings:
    settings = coordinator_settings(read_estate(estate_file))
    if settings is None:
        raise InputError(f"{estate_file} declares no coordinator: add the block (gpumem.yaml explains it)")
    return settings
