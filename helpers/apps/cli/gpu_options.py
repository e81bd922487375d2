"""What the commands about GPU jobs share: which manager, who asks, and which job or project is meant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from helpers.domain import names
from helpers.domain.errors import CheckFailed, DependencyError, GpumemError, InputError
from helpers.sdk.gpu import GPUJobClient, GPUJobError, JobFailed, JobRefused, ManagerUnreachable, WaitedTooLong

Command = TypeVar("Command", bound=Callable[..., Any])
# The shell waits for completions, so they are asked for once and briefly.
_COMPLETION_SECONDS = 1.0
_MOST_COMPLETIONS_COUNT = 50


def manager_options(command: Command) -> Command:
    """`--server`, `--token-file`: which manager, and who asks. The command gets `client`."""

    @functools.wraps(command)
    def connected(server: str | None, token_file: Path | None, **arguments: Any) -> Any:
        try:
            with GPUJobClient(server, token=_token(token_file)) as client:
                return command(client=client, **arguments)
        except GPUJobError as error:
            raise as_ours(error) from error

    for option in (
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help=f"Holds who asks; otherwise ${names.ENV_MANAGER_TOKEN}, or the pod's own token.",
        ),
        click.option("--server", envvar=names.ENV_MANAGER_URL, help="The manager; otherwise its Service."),
    ):
        connected = option(connected)
    return connected  # type: ignore[return-value] # click's decorators keep the callable


def as_ours(error: GPUJobError) -> GpumemError:
    """The error with its exit code: 2 the request is wrong, 1 it may not or cannot be, 3 nobody answers."""
    if isinstance(error, JobRefused) and error.status_code in (None, 400, 413, 422):
        return InputError(str(error))
    if isinstance(error, JobRefused | JobFailed | WaitedTooLong):
        return CheckFailed(str(error))
    return DependencyError(str(error)) if isinstance(error, ManagerUnreachable) else InputError(str(error))


def _token(token_file: Path | None) -> str | None:
    if token_file is None:
        return None
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"--token-file {token_file}: {error.strerror}") from error


def complete_job(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of jobs that begin like that."""
    token_file = ctx.params.get("token_file")
    try:
        with httpx.Client(timeout=_COMPLETION_SECONDS) as http:
            client = GPUJobClient(ctx.params.get("server"), token=_token(token_file), client=http, tries_count=1)
            found = [job.job_id for job, _ in zip(client.list(), range(_MOST_COMPLETIONS_COUNT), strict=False)]
    except (GPUJobError, InputError):
        # A completion has nowhere to print to; the command itself will say what is wrong.
        return []
    return [job_id for job_id in found if job_id.startswith(incomplete)]


job_argument = click.argument("job_id", metavar="JOB", shell_complete=complete_job)
project_option = click.option(
    "-n", "--project", "projects", multiple=True, help="A project, which is a namespace; absent: all that you may list."
)
