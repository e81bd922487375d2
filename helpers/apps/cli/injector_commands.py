"""`gpumem injector run`: the admission webhook, for clusters whose API server cannot run the rules itself."""

from __future__ import annotations

from functools import partial
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
    settings_option,
)
from helpers.domain import names
from helpers.domain.admission.decide import decide
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE, AdmissionSettings, admission_settings
from helpers.domain.errors import InputError


@click.group()
def injector() -> None:
    """Devices and budgets for GPU pods at creation, as an admission webhook."""


@injector.command("run")
@estate_option
@cluster_options
@dry_run_option
@settings_option("admission.json")
@click.option(
    "--dns-name",
    "dns_names",
    multiple=True,
    metavar="NAME",
    help="Under which API servers ask, a name or an address; repeatable.  [default: the Service's]",
)
@click.option(
    "--listen-address",
    default=f"127.0.0.1:{names.INJECTOR_PORT}",
    show_default=True,
    help="HOST:PORT of the webhook (TLS); port 0: a free one.",
)
@click.option(
    "--metrics-address",
    default=f"127.0.0.1:{names.INJECTOR_METRICS_PORT}",
    show_default=True,
    help="HOST:PORT of /metrics, /healthz and /readyz; empty: none.",
)
@click.option(
    "--namespace",
    envvar=names.ENV_NAMESPACE,
    default=GPU_SYSTEM_NAMESPACE,
    show_default=True,
    help="Where the Secret and the Lease are.",
)
@click.option("--secret", default=names.WEBHOOK_SECRET, show_default=True, help="The Secret of the certificate.")
@click.option(
    "--configuration",
    default=names.WEBHOOK_CONFIGURATION,
    show_default=True,
    help="The MutatingWebhookConfiguration whose caBundle is kept.",
)
@click.option(
    "--certificates",
    type=click.Choice(["self", "cert-manager"]),
    default="self",
    show_default=True,
    help="Who makes certificates. cert-manager: they are only read.",
)
@click.option("--lifetime-seconds", type=float, default=None, help="Of a self-made certificate.  [default: 90 days]")
@click.option("--settle-seconds", type=float, default=None, help="From trust to first use.  [default: 10]")
@click.option("--drain-seconds", type=float, default=0.0, help="Go on answering that long after SIGTERM.")
def injector_run(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    dry_run: bool,
    settings_file: Path | None,
    dns_names: tuple[str, ...],
    namespace: str,
    **given: Any,
) -> None:
    """Answer reviews until stopped, and keep the certificate. Dry run: certificates are only read."""
    app: Any = load_app("injector")
    settings = app.read_admission_settings(settings_file) if settings_file else _settings(estate_file)
    own = names.service_dns_name(names.WEBHOOK_SERVICE, namespace)
    told = {key: value for key, value in given.items() if value is not None}
    told |= {"namespace": namespace, "dns_names": dns_names or (own,), "dry_run": dry_run}
    run = parse_settings(app.RunSettings, told, "gpumem injector run")
    cluster = connect_cluster(kubeconfig, context, log=app.injector_log(dry_run=dry_run))
    app.run_injector(cluster, partial(decide, settings=settings), run)


def _settings(estate_file: Path) -> AdmissionSettings:
    estate = read_estate(estate_file)
    if estate.admission is None:
        raise InputError(f"{estate_file} has no block admission, so there are no rules. Add one, or pass --settings.")
    return admission_settings(estate, estate.admission)
