"""`gpumem review`: what a change of an estate does, before it lands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from helpers.apps.cli.context import estate_option
from helpers.apps.cli.estate_source import read_source
from helpers.apps.cli.output import FORMATS, emit_data
from helpers.apps.cli.review_text import comment_markdown, terminal_text
from helpers.apps.cli.trace_options import prometheus_options, trace_of
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.estate.model import Estate
from helpers.domain.review.build import Rendering, review_change
from helpers.domain.review.model import ReviewResult
from helpers.domain.watchdog.recommendation import Recommendation, recommend_all
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.review import rendering_of
from helpers.rendering.review_html import review_page
from helpers.rendering.review_plan import renderings_of_plans
from helpers.rendering.review_svg import seating_chart

USUAL_PATH = "gpumem.yaml"
_TEXTS: dict[str, Callable[[ReviewResult], str]] = {
    "table": terminal_text,
    "markdown": comment_markdown,
    "html": review_page,
}


@click.command()
@click.option("--base", metavar="FILE|REF|REF:FILE", help="The estate before: a file, or a git revision.")
@click.option(
    "--plan",
    "plans",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of --base: what stands by this `terraform show -json`; one a stack.",
)
@estate_option
@click.option(
    "-o", "--output", type=click.Choice([*FORMATS, "html"]), default="table", show_default=True, help="How to print it."
)
@click.option(
    "--svg", "svg_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the seating chart here."
)
@click.option("--allow-overflow", is_flag=True, help="Accept that always-on tenants wait.")
@click.option(
    "--usage",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare budgets with what this trace measured; repeatable.",
)
@prometheus_options
def review(
    base: str | None,
    plans: tuple[Path, ...],
    estate_file: Path,
    output: str,
    svg_file: Path | None,
    allow_overflow: bool,
    traces: tuple[Path, ...],
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
) -> int:
    """Say what a change does: numbers per GPU, who waits, who restarts, and a verdict. Exit 1: policy says stop."""
    if (base is None) == (not plans):
        raise click.UsageError("give --base FILE|REF, or --plan FILE once a stack")
    before, after = _both_sides(base, plans, estate_file)
    use = _measured(before.estate, traces, prometheus_url, days, step_seconds)
    result = review_change(before, after, use=use, allow_overflow=allow_overflow)
    if svg_file is not None:
        _write(svg_file, seating_chart(result))
    if not emit_data(result.model_dump(mode="json"), output):
        click.echo(_TEXTS[output](result).rstrip("\n"))
    return int(ExitCode.CHECK_FAILED if result.stops else ExitCode.OK)


def _both_sides(base: str | None, plans: tuple[Path, ...], estate_file: Path) -> tuple[Rendering, Rendering]:
    new = read_source(str(estate_file), USUAL_PATH, option="-f")
    if base is None:
        return renderings_of_plans(plans, new)
    usual = str(estate_file) if estate_file.is_file() and not estate_file.is_absolute() else USUAL_PATH
    return rendering_of(*read_source(base, usual, option="--base")), rendering_of(*new)


def _measured(
    base: Estate, traces: tuple[Path, ...], prometheus_url: str | None, days: float, step_seconds: int
) -> dict[str, Recommendation] | None:
    """What was measured, by tenant, of the estate that ran meanwhile; None where nobody asked."""
    if not traces and prometheus_url is None:
        return None
    trace = trace_of(traces, prometheus_url, days, step_seconds, watchdog_settings(base))
    found = recommend_all(trace, {tenant.name: tenant.budget_mib for tenant in base.tenants})
    return {one.tenant: one for one in found}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}. Name another file with --svg.") from error
