"""`gpumem exporter run`: flags to settings, settings to a run, a run to an exit code."""

from __future__ import annotations

import argparse
import functools
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
        given = vars(parser().parse_args(arguments))
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


def parser() -> argparse.ArgumentParser:
    """The exporter's flags; what is not given keeps the default that the help states."""
    made = argparse.ArgumentParser(prog="gpumem exporter run", allow_abbrev=False)
    made.add_argument("--once", action="store_true", help="print one round's metrics and exit")
    _measuring_flags(made)
    _pod_flags(made)
    return made


def _measuring_flags(made: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, made)
    add("--source", "who measures", choices=("nvml", "dcgm"))
    add("--dcgm-url", "with source dcgm: its metrics")
    add("--dcgm-collection-seconds", "dcgm-exporter's -c; figures are dated as that old", type=float)
    add("--listen-address", "in a pod 0.0.0.0 or ::")
    add("--listen-port", "0: any free port, logged", type=int)
    add("--interval-seconds", "between two rounds", type=float)
    add("--stale-after-intervals", "older figures are served as down", type=int)
    add("--nvml-deadline-seconds", "for all cards together; a card that takes longer is unknown", type=float)
    add("--host-proc", "/proc with hostPID, or where the host's is mounted", type=Path)
    add("--cgroup-root", "where the host has its cgroup v2 hierarchy, as the driver sees it")
    add("--host-cgroup", "where that hierarchy is mounted here", type=Path)
    add(
        "--require-host-pids",
        "without the host's PIDs, end; otherwise only in Kubernetes",
        action=argparse.BooleanOptionalAction,
    )


def _pod_flags(made: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, made)
    made.add_argument(
        "--no-kubernetes", dest="kubernetes", action="store_false", default=None, help="a machine outside Kubernetes"
    )
    add("--pods-source", "who knows the pods", choices=("api", "kubelet"))
    add("--pods-url", "of the API server or the kubelet; without: the API server of the environment")
    add("--node-name", "this node, to ask the API server for its pods")
    add("--token-file", "the bearer token", type=Path)
    add("--ca-file", "who signed the server's certificate", type=Path)
    add("--insecure-tls", "take any certificate, as kubelets that sign their own need", action="store_true")
    add("--pods-interval-seconds", "between two lists of all pods; new processes ask at once", type=float)
    add("--cdi-dir", "where the node's agent writes what claims hold", type=Path)
    add("--resource", "the extended resource in which budgets are declared")
    made.add_argument(
        "--tenant", dest="tenants", type=tenant_from, action="append", metavar="NAME=unit:UNIT|comm:PROCESS[,MIB]",
        help="with --no-kubernetes: a tenant by its systemd unit or process name; repeatable",
    )  # fmt: skip


def _add(made: argparse.ArgumentParser, flag: str, text: str, **options: Any) -> None:
    """One flag of the setting of that name, whose default the help states and the settings keep."""
    default = ExporterSettings.model_fields[flag.removeprefix("--").replace("-", "_")].default
    stated = "" if default in (None, "", False) else f" (default: {default})"
    made.add_argument(flag, help=text + stated, default=None, **options)


if __name__ == "__main__":
    sys.exit(main())
