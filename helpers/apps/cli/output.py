"""How results reach a person or a machine: aligned tables, Markdown, JSON, YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
import yaml
from tabulate import tabulate

FORMATS = ("table", "json", "yaml", "markdown")
Command = TypeVar("Command", bound=Callable[..., Any])


def output_option(command: Command) -> Command:
    """`-o table|json|yaml|markdown`."""
    return click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
    )(command)


def emit_data(data: Any, output: str) -> bool:
    """Print `data` for a machine if `output` asks for that; False where a person is to read it."""
    if output == "json":
        click.echo(json.dumps(data, indent=2, sort_keys=False))
    elif output == "yaml":
        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        return False
    return True


def table(rows: Sequence[Mapping[str, Any]], output: str, *, right: Sequence[str] = ()) -> str:
    """`rows` (all with the same keys, in order) as aligned text or a Markdown table."""
    if not rows:
        return ""
    headers = list(rows[0])
    align = ["right" if header in right else "left" for header in headers]
    markdown = output == "markdown"
    return tabulate(
        [list(row.values()) for row in rows],
        headers=headers if markdown else [header.upper() for header in headers],
        tablefmt="github" if markdown else "plain",
        colalign=align,
        disable_numparse=True,
    )


def coloured(text: str, colour: str) -> str:
    """`text` in `colour` where standard output is a terminal; plain elsewhere."""
    return click.style(text, fg=colour) if sys.stdout.isatty() else text


def ratio_text(part: int, whole: int) -> str:
    """`part / whole` as a person reads it; nothing where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else ""
