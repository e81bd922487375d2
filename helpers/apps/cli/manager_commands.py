"""`gpumem manager run`: GPU jobs by API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    estate_option,
    lease_namespace_option,
    load_app,
    read_estate,
    require_lease_namespace,
    settings_option,
)
from helpers.domain import names
from helpers.domain.errors import InputError
from helpers.domain.jobs.settings import ManagerSettings, manager_settings


@click.group()
def manager() -> None:
    """GPU jobs: submitted, queued, run, paid for and stopped."""


@manager.command("run")
@estate_option
@cluster_options
@settings_option("manager.json")
@lease_namespace_option
@click.option(
    "--no-kubernetes",
    is_flag=True,
    help="A plain process: jobs are taken and stay pending, the database says who leads.",
)
@click.option(
    "--address",
    default=f"127.0.0.1:{names.MANAGER_PORT}",
    show_default=True,
    help="HOST:PORT of the API.",
)
@click.option(
    "--metrics-address",
    default=f"127.0.0.1:{names.MANAGER_METRICS_PORT}",
    show_default=True,
    help="HOST:PORT of /metrics; empty: none.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Who may do what, where no API server says so: lines of TOKEN USER PROJECT[,PROJECT...].",
)
@click.option(
    "--tls",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of tls.crt and tls.key; without it, plain HTTP.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="The cluster is asked what it would do, and nothing is done: jobs are taken and stay pending.",
)
def manager_run(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    settings_file: Path | None,
    lease_namespace: str,
    no_kubernetes: bool,
    address: str,
    metrics_address: str,
    tokens: Path | None,
    tls: Path | None,
    dry_run: bool,
) -> None:
    """Serve until stopped. The database's URL comes from the variable that the estate names; absent: SQLite, here."""
    app: Any = load_app("manager")
    settings = app.read_manager_settings(settings_file) if settings_file is not None else _of_estate(estate_file)
    require_lease_namespace(lease_namespace, no_kubernetes=no_kubernetes)
    run: dict[str, Any] = {"namespace": lease_namespace, "address": address, "metrics_address": metrics_address}
    run |= {"tokens": tokens, "tls_folder": tls}
    if url := os.environ.get(settings.database_url_env, ""):
        run["database_url"] = url
    if settings.budget_alerts is not None:
        run["alert_secrets"] = {name: os.environ.get(name, "") for name in settings.budget_alerts.secrets()}
    run["dry_run"] = dry_run
    if no_kubernetes:
        app.run_manager(settings, app.RunSettings(**run), app.Outside())
        return
    log = app.manager_log(dry_run=dry_run)
    cluster, commands = connect_cluster(kubeconfig, context, log=log), app.connect_commands(kubeconfig, context)
    with app.engine_of(settings, cluster, log, commands=commands, dry_run=dry_run) as engine:
        app.run_manager(settings, app.RunSettings(**run), app.Outside(cluster, engine, app.utilisation_of(settings)))


@manager.command("openapi")
def manager_openapi() -> None:
    """Print the API as OpenAPI."""
    app: Any = load_app("manager")
    click.echo(app.openapi_document(), nl=False)


def _of_estate(estate_file: Path) -> ManagerSettings:
    settings = manager_settings(read_estate(estate_file))
    if settings is None:
        raise InputError(f"{estate_file} declares no manager: add the block (gpumem.yaml explains it)")
    return settings
