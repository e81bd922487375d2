"""Entry point: one group, exit codes by the error tree, no traceback for what we raise on purpose."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

import click

from helpers.apps.cli.capacity_commands import capacity, verify
from helpers.apps.cli.estate_commands import completion, render, report, validate
from helpers.apps.cli.lab_commands import lab
from helpers.apps.cli.tenant_commands import budget, release, replicas, restore
from helpers.domain.errors import ExitCode, GpumemError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("gpumem"), prog_name="gpumem")
def cli() -> None:
    """Share NVIDIA GPUs by memory: budgets that the scheduler counts."""


for command in (validate, render, report, verify, capacity, budget, replicas, release, restore, lab, completion):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and give its exit code (docs/reference/exit-codes.md)."""
    try:
        result = cli.main(args=list(arguments), prog_name="gpumem", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        click.echo("gpumem: stopped", err=True)
        return int(ExitCode.CHECK_FAILED)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.BAD_INPUT)
    except GpumemError as error:
        click.echo(f"gpumem: {error}" if "\n" not in str(error) else str(error), err=True)
        return int(error.exit_code)
    except Exception:  # noqa: BLE001 - the last line of defence: a traceback and exit 70
        traceback.print_exc()
        click.echo("gpumem: this is a fault of gpumem; the lines above say where", err=True)
        return int(ExitCode.UNEXPECTED)
    return int(result) if isinstance(result, int) else int(ExitCode.OK)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
