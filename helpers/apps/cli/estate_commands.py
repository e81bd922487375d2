"""Commands that need only the estate file: validate, render, report (live on request), completion."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from helpers.apps.cli.context import cluster_options, connect_cluster, estate_option, read_estate
from helpers.apps.cli.output import coloured, emit_data, output_option
from helpers.apps.cli.report_text import comparison_text, report_text
from helpers.domain.ledger import build_ledger
from helpers.domain.report import compare, static_report
from helpers.rendering.estate_file import estate_schema, load_estate
from helpers.rendering.objects import WAVE_FOLDERS
from helpers.rendering.render import render as render_estate
from helpers.rendering.write import to_stream, write_tree
from helpers.services.live import live_report


@click.command()
@estate_option
@output_option
@click.option("--print-schema", is_flag=True, help="Print the estate's JSON Schema instead.")
def validate(estate_file: Path, output: str, print_schema: bool) -> None:
    """Check the estate against its schema and its own arithmetic."""
    if print_schema:
        click.echo(json.dumps(estate_schema(), indent=2))
        return
    estate, warnings = load_estate(estate_file)
    ledger = build_ledger(estate)
    data = {
        "file": str(estate_file),
        "valid": True,
        "tenants_count": len(estate.tenants),
        "warnings": [vars(warning) for warning in warnings],
        "nodes": [
            {
                "name": entry.node.name,
                "advertised_mib": entry.advertised_mib,
                "always_on_mib": entry.always_on_mib,
                "slack_mib": entry.slack_mib,
            }
            for entry in ledger.nodes
        ],
    }
    if emit_data(data, output):
        return
    for warning in warnings:
        click.echo(warning.text(), err=True)
    for entry in ledger.nodes:
        click.echo(
            f"{entry.node.name}: {entry.always_on_mib} of {entry.advertised_mib} MiB promised to "
            f"{len(entry.always_on)} always-on tenants, {entry.slack_mib} MiB slack, {len(entry.elastic)} elastic"
        )
    click.echo(coloured(f"{estate_file}: valid", "green"))


@click.command()
@estate_option
@click.option("--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Write a folder a wave.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Write one YAML stream to standard output.")
def render(estate_file: Path, output_dir: Path | None, to_stdout: bool) -> None:
    """Render the estate to plain Kubernetes YAML, without a cluster."""
    if (output_dir is None) == (not to_stdout):
        raise click.UsageError("give exactly one of --output-dir DIR and --stdout")
    estate, warnings = load_estate(estate_file)
    for warning in warnings:
        click.echo(warning.text(), err=True)
    rendered = render_estate(estate)
    if output_dir is None:
        click.echo(to_stream(rendered), nl=False)
        return
    write_tree(rendered, output_dir)
    for wave, folder in WAVE_FOLDERS.items():
        part = rendered.wave(wave)
        if part.objects or part.steps:
            click.echo(f"{output_dir / folder}: {len(part.objects)} objects, {len(part.steps)} steps run by Terraform")
    for folder in sorted({file.folder for file in rendered.files}):
        click.echo(f"{output_dir / folder}: {', '.join(f.name for f in rendered.files if f.folder == folder)}")


@click.command()
@estate_option
@output_option
@click.option("--live", is_flag=True, help="Add what the cluster shows: capacity, pods, who is Pending and why.")
@click.option(
    "--compare", "before_file", type=click.Path(path_type=Path, dir_okay=False), help="An older estate: before/after."
)
@cluster_options
def report(
    estate_file: Path, output: str, live: bool, before_file: Path | None, kubeconfig: Path | None, context: str | None
) -> None:
    """Print shares and budgets per node and per card, with percentages."""
    if live and before_file is not None:
        raise click.UsageError("--live shows one estate and --compare two; give one of them")
    estate = read_estate(estate_file)
    if before_file is not None:
        comparison = compare(static_report(read_estate(before_file)), static_report(estate))
        if not emit_data(comparison.model_dump(mode="json"), output):
            click.echo(comparison_text(comparison, output))
        return
    result = live_report(connect_cluster(kubeconfig, context), estate) if live else static_report(estate)
    if not emit_data(result.model_dump(mode="json", by_alias=True), output):
        click.echo(report_text(result, output))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print shell completion: eval "$(gpumem completion bash)"."""
    completer = get_completion_class(shell)
    # The choice above holds exactly the shells that click itself can complete for.
    if completer is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root()
    name = root.info_name or "gpumem"
    click.echo(completer(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())
