"""Entry point: one group, exit codes by the error tree, no traceback for what we raise on purpose."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

import click

from helpers.domain.errors import ExitCode, GpumemError

# Loaded when used: the exporter must stay small, and `gpumem validate` needs no cluster client.
COMMANDS = {
    "validate": "estate_commands",
    "render": "estate_commands",
    "report": "estate_commands",
    "review": "review_commands",
    "completion": "estate_commands",
    "verify": "capacity_commands",
    "capacity": "capacity_commands",
    "budget": "tenant_commands",
    "replicas": "tenant_commands",
    "release": "tenant_commands",
    "restore": "tenant_commands",
    "exporter": "exporter_commands",
    "dra-agent": "dra_commands",
    "coordinator": "coordinator_commands",
    "manager": "manager_commands",
    "gpu": "gpu_commands",
    "injector": "injector_commands",
    "watchdog": "watchdog_commands",
    "recommend": "watchdog_commands",
    "arm": "watchdog_commands",
    "bill": "bill_commands",
    "admission": "admission_commands",
    "plan-check": "plan_commands",
    "doctor": "doctor_commands",
    "health": "health_commands",
    "lab": "lab_commands",
    "migrate": "migrate_commands",
}


class _Commands(click.Group):
    """The commands above, each module imported when one of its commands is asked for."""

    known = tuple(sorted(COMMANDS))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.known)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.known:
            return None
        module = importlib.import_module(f"helpers.apps.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("gpumem"), prog_name="gpumem")
def cli() -> None:
    """Share NVIDIA GPUs by memory: budgets that the scheduler counts."""


class _JobCommands(_Commands):
    """Those about jobs alone."""

    known = ("gpu", "completion")


@click.group(cls=_JobCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def odg() -> None:
    """GPU jobs: `odg gpu` is `gpumem gpu`, for who knows it by that name."""


def run(arguments: Sequence[str], program: click.Group = cli) -> int:
    """Run the command line and give its exit code (docs/reference/exit-codes.md)."""
    try:
        result = program.main(
            args=list(arguments), prog_name="odg" if program is odg else "gpumem", standalone_mode=False
        )
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


def main_odg() -> None:
    """The console script `odg`."""
    sys.exit(run(sys.argv[1:], odg))


if __name__ == "__main__":
    main()
