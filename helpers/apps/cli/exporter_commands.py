"""`gpumem exporter`: read the cards of this machine."""

from __future__ import annotations

from typing import Any

import click

from helpers.apps.cli.context import load_app

# The exporter's own flags go through as they are: it must start small, and say them itself.
_THROUGH: dict[str, Any] = {"ignore_unknown_options": True, "help_option_names": []}


@click.group()
def exporter() -> None:
    """Whose GPU memory is whose, as metrics; read-only."""


@exporter.command("run", context_settings=_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exporter_run(arguments: tuple[str, ...]) -> int:
    """Serve metrics until stopped; `--once` prints one round, `--help` lists the flags."""
    code: int = load_app("exporter.__main__").main(arguments)
    return code
