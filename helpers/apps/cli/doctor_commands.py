"""`gpumem doctor`: what is wrong with a cluster, why, and what mends it."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import cluster_options, connect_cluster, estate_option, read_estate
from helpers.apps.cli.output import coloured, emit_data, output_option, table
from helpers.apps.cli.trace_options import prometheus_options
from helpers.domain.doctor.facts import Need, Thresholds
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.errors import ExitCode
from helpers.domain.estate.model import Estate
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget

_PROGRESS_AFTER_SECONDS = 2.0
_DEFAULTS = Thresholds()
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


def exporter_options(command: Any) -> Any:
    """`--exporter NODE=URL`, `--scrape`: where measured use is asked for."""
    command = click.option(
        "--scrape", is_flag=True, help="Ask the exporters at their pods' addresses; works where pods can be reached."
    )(command)
    return click.option("--exporter", "exporters", multiple=True, metavar="NODE=URL", help="Ask this one; repeatable.")(
        command
    )


def http_exporters(exporters: tuple[str, ...], *, scrape: bool) -> tuple[Exporters | None, frozenset[ExporterTarget]]:
    """Who reads exporters, None where nobody asked for it; and those that were named."""
    if not exporters and not scrape:
        return None, frozenset()
    from helpers.adapters.clock import SystemClock
    from helpers.adapters.exporter_scrape import HttpExporters, parse_target

    return HttpExporters(SystemClock()), frozenset(parse_target(text) for text in exporters)


@click.command()
@estate_option
@cluster_options
@output_option
@exporter_options
@prometheus_options
@click.option("--released-hours", type=click.FloatRange(min=0), default=_DEFAULTS.released_hours, show_default=True,
              help="A tenant released for longer counts as forgotten.")  # fmt: skip
@click.option("--dry-run-days", type=click.FloatRange(min=0), default=_DEFAULTS.dry_run_days, show_default=True,
              help="A watchdog in dry run for longer is mentioned.")  # fmt: skip
@click.option("--certificate-days", type=click.FloatRange(min=0), default=_DEFAULTS.certificate_days,
              show_default=True, help="A certificate that ends sooner is reported.")  # fmt: skip
@click.option("--print-role", is_flag=True, help="Print the rights that it needs, for `kubectl apply -f -`.")
def doctor(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: str,
    exporters: tuple[str, ...],
    scrape: bool,
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
    released_hours: float,
    dry_run_days: float,
    certificate_days: float,
    print_role: bool,
) -> int:
    """Find known faults of the cluster, with evidence and the fix. Writes nothing. Exit 1: an error was found."""
    estate = read_estate(estate_file)
    if print_role:
        from helpers.rendering.doctor_role import role_text

        click.echo(role_text(estate), nl=False)
        return int(ExitCode.OK)
    from helpers.adapters.certificates import X509Certificates
    from helpers.adapters.clock import SystemClock
    from helpers.rendering.render import render
    from helpers.services.doctor import Declared, Question, examine

    reader, targets = http_exporters(exporters, scrape=scrape)
    question = Question(
        thresholds=Thresholds(released_hours, dry_run_days, certificate_days),
        exporters=reader,
        targets=targets,
        discover=scrape,
        needs=() if prometheus_url is None else _measured(estate, prometheus_url, days, step_seconds),
    )
    with _Progress() as progress:
        found = examine(
            connect_cluster(kubeconfig, context),
            Declared(estate, str(estate_file), tuple(item.manifest for item in render(estate).objects)),
            SystemClock(),
            X509Certificates(),
            question,
            progress.still,
        )
    if not emit_data([asdict(one) | {"severity": one.severity.value} for one in found], output):
        click.echo(_text(found, estate, output))
    failed = any(finding.severity is Severity.ERROR for finding in found)
    return int(ExitCode.CHECK_FAILED if failed else ExitCode.OK)


def _measured(estate: Estate, prometheus_url: str, days: float, step_seconds: int) -> tuple[Need, ...]:
    """What tenants used, as a Prometheus has it: the p99, which a budget must hold."""
    from helpers.adapters.clock import SystemClock
    from helpers.adapters.prometheus_api import PrometheusApi
    from helpers.domain.watchdog.recommendation import recommend_all
    from helpers.domain.watchdog.settings import watchdog_settings
    from helpers.services.replay import fetched_trace

    api, span = PrometheusApi(prometheus_url), timedelta(days=days)
    trace = fetched_trace(api, SystemClock(), span, step_seconds, watchdog_settings(estate))
    found = recommend_all(trace, {tenant.name: tenant.budget_mib for tenant in estate.tenants})
    return tuple(
        Need(one.tenant, one.p99_mib, f"its p99 of {days:g} days is") for one in found if one.p99_mib is not None
    )


def _text(found: tuple[Finding, ...], estate: Estate, output: str) -> str:
    if not found:
        tenants = f"{len(estate.tenants)} tenants, {len(estate.nodes)} node entries"
        return coloured("nothing found", "green") + f" ({tenants})"
    if output == "markdown":
        return _markdown(found)
    blocks = []
    for one in found:
        lines = [
            f"{coloured(one.severity.value, _COLOURS[one.severity])}  {one.id}  {one.where}",
            f"  evidence: {one.evidence}",
            f"  fix:      {one.fix}",
        ]
        blocks.append("\n".join([*lines, *([f"  command:  {one.command}"] if one.command else [])]))
    return "\n\n".join([*blocks, _sum(found)])


def _markdown(found: tuple[Finding, ...]) -> str:
    rows = [
        {
            "severity": one.severity.value,
            "id": one.id,
            "where": one.where,
            "evidence": _cell(one.evidence),
            "fix": _cell(one.fix) + (f"<br>`{_cell(one.command)}`" if one.command else ""),
        }
        for one in found
    ]
    return f"{table(rows, 'markdown')}\n\n{_sum(found)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sum(found: tuple[Finding, ...]) -> str:
    counts = [(sum(one.severity is severity for one in found), severity.value) for severity in Severity]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


class _Progress:
    """What is still being read, on a terminal, from two seconds on: who waits for nothing long sees nothing."""

    def __init__(self) -> None:
        self._waiting: frozenset[str] = frozenset()
        self._timer = threading.Timer(_PROGRESS_AFTER_SECONDS, self._begin)
        self._timer.daemon = True
        self._begun = False

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def still(self, waiting: frozenset[str]) -> None:
        """These are still being read."""
        self._waiting = waiting
        if self._begun:
            self._say()

    def _begin(self) -> None:
        self._begun = True
        self._say()

    def _say(self) -> None:
        if self._waiting:
            click.echo(f"still reading: {', '.join(sorted(self._waiting))}", err=True)
