"""`gpumem watchdog run|replay`, `gpumem recommend`, `gpumem arm`: defend the memory, and learn from what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import (
    cluster_options,
    connect_cluster,
    connect_commands,
    estate_option,
    load_app,
    read_estate,
    settings_option,
)
from helpers.apps.cli.output import coloured, emit_data, output_option, table
from helpers.apps.cli.trace_options import prometheus_options, trace_argument, trace_of
from helpers.domain import names
from helpers.domain.dra.claims import driver_of
from helpers.domain.errors import ExitCode
from helpers.domain.estate.model import Estate
from helpers.domain.watchdog.arming import ArmingReport
from helpers.domain.watchdog.recommendation import Recommendation
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.estate_edit import edit_file
from helpers.services.recommend import Advice, advise, write_advice
from helpers.services.recommend import arm as judge
from helpers.services.replay import replay_choices, summary

_MEASURES = ("budget MiB", "baseline", "p50", "p99", "max", "start-up spike", "suggested MiB")


@click.group()
def watchdog() -> None:
    """Recycle the biggest over-budget tenant when free memory is under the floor."""


@watchdog.command("run")
@estate_option
@cluster_options
@settings_option("watchdog.json")
@click.option("--resource", help="With --settings: the extended resource in which budgets are declared.")
@click.option("--claims-driver", default="", help="With --settings: whose cards budgets are claims on.")
@click.option("--label-prefix", default=names.DEFAULT_LABEL_PREFIX, show_default=True, help="With --settings.")
@click.option("--namespace", envvar=names.ENV_NAMESPACE, help="Where the Lease and the exporters are.")
@click.option("--exporter", "exporters", multiple=True, metavar="NODE=URL", help="Not by EndpointSlice; repeatable.")
@click.option(
    "--metrics-address",
    default=f"127.0.0.1:{names.WATCHDOG_METRICS_PORT}",
    show_default=True,
    help="HOST:PORT of /metrics; empty: none.",
)
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Write what is seen to this trace.")
def watchdog_run(
    estate_file: Path,
    kubeconfig: Path | None,
    context: str | None,
    settings_file: Path | None,
    resource: str | None,
    claims_driver: str,
    label_prefix: str,
    namespace: str | None,
    exporters: tuple[str, ...],
    metrics_address: str,
    record: Path | None,
) -> None:
    """Watch until stopped. Whether it acts is the estate's `watchdog.dry_run`."""
    app: Any = load_app("watchdog")
    if settings_file is None:
        estate = read_estate(estate_file)
        settings = watchdog_settings(estate)
        resource, label_prefix = estate.resource, estate.label_prefix
        claims_driver = driver_of(estate) if estate.claim_nodes() else ""
        namespace = namespace or estate.namespace
    else:
        settings = app.read_watchdog_settings(settings_file)
    if not resource or not namespace:
        raise click.UsageError(f"--settings needs --resource and --namespace (or ${names.ENV_NAMESPACE})")
    run = app.RunSettings(
        resource=resource,
        claims_driver=claims_driver,
        label_prefix=label_prefix,
        namespace=namespace,
        exporters=exporters,
        metrics_address=metrics_address,
        record=record,
    )
    cluster = connect_cluster(kubeconfig, context, log=app.watchdog_log(dry_run=settings.dry_run))
    commands = connect_commands(kubeconfig, context) if settings.allow_exec else None
    app.run_watchdog(cluster, settings, run, commands=commands)


@watchdog.command("replay")
@trace_argument
@estate_option
@output_option
@prometheus_options
@click.option("--floor-mib", "floors_mib", type=click.IntRange(min=1), multiple=True, help="Try it; repeatable.")
@click.option(
    "--cooldown-seconds", "cooldowns_seconds", type=click.FloatRange(min=0), multiple=True, help="Try this; repeatable."
)
def watchdog_replay(
    traces: tuple[Path, ...],
    estate_file: Path,
    output: str,
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
    floors_mib: tuple[int, ...],
    cooldowns_seconds: tuple[float, ...],
) -> None:
    """Run the watchdog's own decisions on a recorded TRACE: what would an armed one have done?"""
    settings = watchdog_settings(read_estate(estate_file))
    trace = trace_of(traces, prometheus_url, days, step_seconds, settings)
    choices = replay_choices(trace, settings, floors_mib=floors_mib, cooldowns_seconds=cooldowns_seconds)
    found = [summary(report) for report in choices]
    if emit_data(found, output):
        return
    columns = {
        "floor MiB": "floor_mib",
        "cool-down s": "cooldown_seconds",
        "min under floor without": "under_floor_minutes_without",
        "with": "under_floor_minutes",
        "recycles": "recycles",
        "false": "false_recycles",
        "min unknown": "unknown_minutes",
    }
    rows = [{title: str(each[key]) for title, key in columns.items()} for each in found]
    click.echo(table(rows, output, right=list(columns)))
    for each in found:
        for recycle in each["each"]:
            click.echo(f"\nfloor {each['floor_mib']}: " + ", ".join(f"{key} {value}" for key, value in recycle.items()))


@click.command()
@trace_argument
@estate_option
@output_option
@prometheus_options
@click.option("--write", is_flag=True, help="Write the suggestions into the estate file, keeping its comments.")
def recommend(
    traces: tuple[Path, ...],
    estate_file: Path,
    output: str,
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
    write: bool,
) -> int:
    """Suggest budgets (and the cards' reserve) from measured use. Exit 1: what is suggested does not fit."""
    estate = read_estate(estate_file)
    trace = trace_of(traces, prometheus_url, days, step_seconds, watchdog_settings(estate))
    advice = advise(estate, trace)
    if not emit_data(_advice_data(advice), output):
        _print_advice(advice, output)
    if write:
        changed = write_advice(estate_file, advice, edit_file)
        click.echo(f"{estate_file}: {'written' if changed else 'nothing to change'}", err=True)
    return int(ExitCode.OK if advice.fit.fits else ExitCode.CHECK_FAILED)


def _advice_data(advice: Advice) -> dict[str, Any]:
    return {
        "fits": advice.fit.fits,
        "fit": advice.fit.message(),
        "tenants": [_recommendation_data(item) for item in advice.recommendations],
        "reserves": [
            {"card": item.card, "p99_mib": item.p99_mib, "suggested_mib": item.suggested_mib, "reasons": item.reasons}
            for item in advice.reserves
        ],
    }


def _recommendation_data(item: Recommendation) -> dict[str, Any]:
    return {
        "tenant": item.tenant,
        "budget_mib": item.budget_mib,
        "observed_seconds": item.observed_seconds,
        "looks_count": item.looks_count,
        "baseline_mib": item.baseline_mib,
        "p50_mib": item.p50_mib,
        "p99_mib": item.p99_mib,
        "max_mib": item.max_mib,
        "startup_spike_mib": item.startup_spike_mib,
        "leak": item.growth.leak.value,
        "mib_per_day": item.growth.mib_per_day,
        "suggested_mib": item.suggested_mib,
        "confidence": item.confidence.value,
        "reasons": list(item.reasons),
    }


def _print_advice(advice: Advice, output: str) -> None:
    rows = [
        {
            "tenant": item.tenant,
            "budget MiB": _amount(item.budget_mib),
            "baseline": _amount(item.baseline_mib),
            "p50": _amount(item.p50_mib),
            "p99": _amount(item.p99_mib),
            "max": _amount(item.max_mib),
            "start-up spike": _amount(item.startup_spike_mib),
            "growth": item.growth.leak.value,
            "suggested MiB": _amount(item.suggested_mib),
            "confidence": item.confidence.value,
        }
        for item in advice.recommendations
    ]
    click.echo(table(rows, output, right=_MEASURES) or "no tenant was seen")
    for item in advice.recommendations:
        click.echo(f"{item.tenant}: {'; '.join(item.reasons)}")
    for reserve in advice.reserves:
        click.echo(f"reserve of {reserve.card}: {_amount(reserve.suggested_mib)} MiB; {'; '.join(reserve.reasons)}")
    if not advice.fit.fits:
        click.echo(coloured("the suggestions do not fit", "red") + f":\n{advice.fit.message()}", err=True)


@click.command()
@trace_argument
@estate_option
@output_option
@prometheus_options
def arm(
    traces: tuple[Path, ...],
    estate_file: Path,
    output: str,
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
) -> int:
    """May dry run be turned off, and why? Exit 1: not yet. Changes nothing; prints the lines to write."""
    estate = read_estate(estate_file)
    settings = watchdog_settings(estate)
    report = judge(settings, trace_of(traces, prometheus_url, days, step_seconds, settings))
    if not emit_data(_arming_data(report), output):
        _print_arming(estate, report, output)
    return int(ExitCode.OK if report.may else ExitCode.CHECK_FAILED)


def _arming_data(report: ArmingReport) -> dict[str, Any]:
    return {
        "may": report.may,
        "observed_days": report.observed_days,
        "unknown_ratio": report.unknown_ratio,
        "reasons": list(report.reasons),
        "would_be": [
            {"at": one.at.isoformat(), "victim": str(one.decision.victim), "needed": one.needed}
            | {"evidence": one.evidence}
            for one in report.would_be
        ],
        "tenants": [
            {"tenant": one.tenant, "may": one.may, "budget_mib": one.budget_mib, "p99_mib": one.p99_mib}
            | {"suggested_mib": one.suggested_mib, "reasons": list(one.reasons)}
            for one in report.tenants
        ],
        "estate_change": report.estate_change(),
    }


def _print_arming(estate: Estate, report: ArmingReport, output: str) -> None:
    verdict = coloured("may be armed", "green") if report.may else coloured("not yet", "yellow")
    state = "dry run" if estate.watchdog.dry_run else "armed"
    click.echo(
        f"{verdict} (now: {state}); {report.observed_days:.1f} days observed, "
        f"{100 * report.unknown_ratio:.1f} % of that unknown"
    )
    for reason in report.reasons:
        click.echo(f"  {reason}")
    for one in report.would_be:
        needed = {True: "needed", False: "FALSE", None: "undecided"}[one.needed]
        when = f"{one.at:%Y-%m-%d %H:%M:%S}"
        click.echo(f"would have recycled {one.decision.victim} at {when} ({needed}): {one.evidence}")
    rows = [
        {
            "tenant": one.tenant,
            "may": "yes" if one.may else "no",
            "budget MiB": _amount(one.budget_mib),
            "p99": _amount(one.p99_mib),
            "suggested MiB": _amount(one.suggested_mib),
            "why not": "; ".join(one.reasons),
        }
        for one in report.tenants
    ]
    click.echo(table(rows, output, right=("budget MiB", "p99", "suggested MiB")))
    if report.may:
        click.echo(f"\nWrite this into the estate, then plan and apply:\n\n{report.estate_change()}", nl=False)


def _amount(number: int | None) -> str:
    return "unknown" if number is None else str(number)
