"""The container's entry point: `python -m helpers.apps.capacity assert|watch|unset`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from helpers.adapters.kubernetes_ import connect
from helpers.apps.capacity.app import capacity_log, exit_code_of, run_assert, run_unset, run_watch
from helpers.apps.capacity.settings import capacity_path, dry_run, read_capacity_settings, watch_settings
from helpers.domain.errors import ExitCode, GpumemError, InputError

MODES = ("assert", "watch", "unset")


def main(arguments: Sequence[str]) -> ExitCode:
    """Runs one mode with the settings of the environment; a run that failed never exits 0."""
    log = capacity_log(dry_run=False)
    try:
        _run(arguments)
    except GpumemError as error:
        return exit_code_of(error, log)
    except Exception:  # noqa: BLE001 - the last line of defence: a traceback in the log, exit 70
        log.error("unexpected", reason=traceback.format_exc())
        return ExitCode.UNEXPECTED
    return ExitCode.OK


def _run(arguments: Sequence[str]) -> None:
    if len(arguments) != 1 or arguments[0] not in MODES:
        raise InputError(f"arguments {list(arguments)}: give one of {', '.join(MODES)}")
    environment = dict(os.environ)
    settings = read_capacity_settings(capacity_path(environment))
    log = capacity_log(dry_run=dry_run(environment))
    cluster = connect(log=log)
    if arguments[0] == "watch":
        run_watch(cluster, settings, watch_settings(environment))
    elif arguments[0] == "assert":
        run_assert(cluster, settings, dry_run=dry_run(environment))
    else:
        run_unset(cluster, settings, dry_run=dry_run(environment))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
