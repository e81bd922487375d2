"""`gpumem exporter run`: flags to settings, settings to a run, a run to an exit code."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from helpers.adapters.clock import SystemClock
from helpers.adapters.logging_ import JsonLog
from helpers.adapters.process import installed_version
from helpers.apps.exporter.run import run_exporter, sample_once
from helpers.apps.exporter.settings import ExporterSettings
from helpers.domain.errors import ExitCode, GpumemError, InputError

COMPONENT = "exporter"
_TENANT_FORM = "NAME=unit:UNIT.service[,BUDGET_MIB] or NAME=comm:PROCESS[,BUDGET_MIB]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the exporter; the exit code's meaning is in docs/reference/exit-codes.md."""
    try:
        given = vars(_parser().parse_args(arguments))
        once = given.pop("once")
        settings = settings_from(given)
        clock = SystemClock()
        log = JsonLog(COMPONENT, version=installed_version(), dry_run=False, clock=clock)
        if not once:
            return run_exporter(settings, clock=clock, log=log, version=installed_version())
        text, code = sample_once(settings, clock=clock, log=log, version=installed_version())
        sys.stdout.write(text)
        return code
    except GpumemError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last line of defence: a traceback and exit 70
        traceback.print_exc()
        return ExitCode.UNEXPECTED


def settings_from(given: dict[str, Any]) -> ExporterSettings:
    """Settings from flags; those not given keep their defaults.

    Raises:
        InputError: A value is out of range or contradicts another; all of them are named.
    """
    named = {key: value for key, value in given.items() if value is not None}
    try:
        return ExporterSettings.model_validate(named)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors()]
        raise InputError("\n".join(problems)) from error


def tenant_from(text: str) -> dict[str, object]:
    """`NAME=unit:UNIT` or `NAME=comm:PROCESS`, with `,BUDGET_MIB` where it has a budget."""
    name, _, rest = text.partition("=")
    way, _, value = rest.partition(":")
    pattern, _, budget = value.partition(",")
    if way not in ("unit", "comm") or not name or not pattern or (budget and not budget.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not {_TENANT_FORM}")
    return {"name": name, way: pattern} | ({"budget_mib": int(budget)} if budget else {})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpumem exporter run", allow_abbrev=False)
    add = parser.add_argument
    add("--once", action="store_true", help="print one round's metrics and exit")
    add("--source", choices=("nvml", "dcgm"))
    add("--dcgm-url")
    add("--dcgm-collection-seconds", type=float)
    add("--listen-address")
    add("--listen-port", type=int)
    add("--interval-seconds", type=float)
    add("--stale-after-intervals", type=int)
    add("--nvml-deadline-seconds", type=float)
    add("--host-proc", type=Path)
    add("--cgroup-root")
    add("--host-cgroup", type=Path)
    add("--require-host-pids", action=argparse.BooleanOptionalAction)
    add("--no-kubernetes", dest="kubernetes", action="store_false", default=None)
    add("--pods-source", choices=("api", "kubelet"))
    add("--pods-url")
    add("--node-name")
    add("--token-file", type=Path)
    add("--ca-file", type=Path)
    add("--insecure-tls", action="store_true", default=None)
    add("--pods-interval-seconds", type=float)
    add("--resource")
    add("--tenant", dest="tenants", type=tenant_from, action="append", metavar="NAME=unit:UNIT|comm:PROCESS[,MIB]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
