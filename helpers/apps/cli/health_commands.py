"""`gpumem health`: does a tenant work, and does it work as well as before?"""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import ValidationError

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    connect_commands,
    estate_option,
    find_tenant,
    read_estate,
    tenant_argument,
)
from helpers.apps.cli.doctor_commands import exporter_options, http_exporters
from helpers.apps.cli.output import coloured, emit_data, output_option, table
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.health import TenantHealth, problems, regressions
from helpers.domain.watchdog.rights import EXPORTER_SERVICE
from helpers.ports.probes import Prober

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@tenant_argument()
@estate_option
@cluster_options
@output_option
@exporter_options
@click.option("--via", type=click.Choice(["address", "api-server"]), default="address", show_default=True,
              help="How http probes reach a pod.")  # fmt: skip
@click.option("--before", "before_file", type=_file, help="Write what is found there; exit 0 whatever it is.")
@click.option("--after", "after_file", type=_file, help="Compare with that file; exit 1 where something is worse.")
def health(
    tenant: str,
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
    exporters: tuple[str, ...],
    scrape: bool,
    via: str,
    before_file: Path | None,
    after_file: Path | None,
) -> int:
    """Ask TENANT's pods what its `health` block says. Exit 1: something is not well (or, --after, worse)."""
    if before_file is not None and after_file is not None:
        raise click.UsageError("--before writes and --after compares; give one of them")
    estate = read_estate(estate_file)
    found = find_tenant(estate, tenant)
    before = None if after_file is None else _read(after_file, tenant)

    from helpers.adapters.clock import SystemClock
    from helpers.services.health import HealthPorts, observe_health

    reader, targets = http_exporters(exporters, scrape=scrape)
    ports = HealthPorts(
        cluster=connect_cluster(kubeconfig, context),
        prober=_prober(via, kubeconfig, context),
        commands=connect_commands(kubeconfig, context),
        clock=SystemClock(),
        exporters=reader,
        targets=targets,
        service=(estate.namespace, EXPORTER_SERVICE) if scrape else None,
    )
    seen = observe_health(ports, estate, found)
    wrong = problems(seen, found)
    worse = () if before is None else regressions(before, seen, found)
    data = {"healthy": not wrong, "problems": wrong, "regressions": list(worse), **seen.model_dump(mode="json")}
    if not emit_data(data, output):
        click.echo(_text(seen, wrong, output))
        for text in worse:
            click.echo(f"worse than before: {text}", err=True)
    if before_file is not None:
        _write(before_file, seen)
        return int(ExitCode.OK)
    failed = bool(worse) if before is not None else bool(wrong)
    return int(ExitCode.CHECK_FAILED if failed else ExitCode.OK)


def _prober(via: str, kubeconfig: Path | None, context: str | None) -> Prober:
    if via == "api-server":
        from helpers.adapters.kubernetes_.pod_proxy import ProxyProber

        return ProxyProber(kubeconfig, context)
    from helpers.adapters.probes import DirectProber

    return DirectProber()


def _read(file: Path, tenant: str) -> TenantHealth:
    try:
        before = TenantHealth.model_validate_json(file.read_text())
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise InputError(
            f"{file}: {words}. Write one with `gpumem health {tenant} --before {file}` before the change."
        ) from error
    if before.tenant != tenant:
        raise InputError(f"{file}: is about tenant {before.tenant}, not {tenant}; name its own file")
    return before


def _write(file: Path, seen: TenantHealth) -> None:
    try:
        file.write_text(seen.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from error
    click.echo(f"{file}: written", err=True)


def _text(seen: TenantHealth, wrong: dict[str, str], output: str) -> str:
    rows = [
        {
            "pod": pod.pod,
            "probe": result.probe,
            "failed": f"{result.failed_count} of {result.tries_count}",
            "slowest s": f"{result.slowest_seconds:.3f}",
            "first failure": result.failure,
        }
        for pod in seen.pods
        for result in pod.probes
    ]
    left = seen.headroom_mib
    lines = [f"{seen.tenant}: {len(seen.pods)} of {seen.wanted_pods_count} pods run"]
    lines += [f"headroom: {left} of {seen.budget_mib} MiB" if left is not None else _unknown(seen)]
    if rows:
        lines += ["", table(rows, output, right=("failed", "slowest s")), ""]
    lines += [f"{what}: {text}" for what, text in wrong.items()]
    return "\n".join([*lines, coloured("not well", "red") if wrong else coloured("well", "green")])


def _unknown(seen: TenantHealth) -> str:
    why = next((pod.used_unknown for pod in seen.pods if pod.used_mib is None), "no pod runs")
    return f"headroom: unknown ({why})"
