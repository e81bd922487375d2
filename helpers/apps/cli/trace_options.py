"""Where measured use comes from: recorded traces, or a Prometheus."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Trace
from helpers.services.replay import fetched_trace, load_trace

trace_argument = click.argument(
    "traces", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[TRACE]..."
)


def prometheus_options(command: Any) -> Any:
    """`--prometheus URL --days N --step-seconds N`: measure from a Prometheus instead of a recorded trace."""
    command = click.option(
        "--step-seconds", type=click.IntRange(min=1), default=60, show_default=True, help="With --prometheus."
    )(command)
    command = click.option(
        "--days", type=click.FloatRange(min=0.01), default=7.0, show_default=True, help="With --prometheus."
    )(command)
    return click.option("--prometheus", "prometheus_url", default=None, help="Ask this Prometheus instead.")(command)


def trace_of(
    traces: tuple[Path, ...], prometheus_url: str | None, days: float, step_seconds: int, settings: WatchdogSettings
) -> Trace:
    """The trace that the command line names: one or more files, or what a Prometheus has.

    Raises:
        click.UsageError: neither was given, or both.
        InputError, DependencyError: see `helpers.services.replay`.
    """
    if bool(traces) == (prometheus_url is not None):
        raise click.UsageError("give a recorded TRACE (see `gpumem watchdog run --record`), or --prometheus URL")
    if prometheus_url is None:
        return load_trace(traces, settings)
    from helpers.adapters.clock import SystemClock
    from helpers.adapters.prometheus_api import PrometheusApi

    api = PrometheusApi(prometheus_url)
    return fetched_trace(api, SystemClock(), timedelta(days=days), step_seconds, settings)
