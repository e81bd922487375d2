"""What `gpumem gpu submit` was told, as the API's JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from helpers.domain.errors import InputError
from helpers.domain.jobs.gpus import GPU_TYPES
from helpers.domain.jobs.spec import Priority

Command = TypeVar("Command", bound=Callable[..., Any])
# Options, and where the API has them.
_PLACES: dict[str, tuple[str, ...]] = {
    "name": ("job_name",),
    "project": ("project_id",),
    "priority": ("priority",),
    "gpu": ("gpu_requirements", "gpu_type"),
    "gpus": ("gpu_requirements", "gpu_count"),
    "gpu_memory_gb": ("gpu_requirements", "gpu_memory_gb"),
    "gpu_memory_mib": ("gpu_requirements", "gpu_memory_mib"),
    "mig_profile": ("gpu_requirements", "mig_profile"),
    "image": ("container", "image"),
    "cpu": ("resources", "cpu"),
    "memory": ("resources", "memory"),
    "ephemeral_storage": ("resources", "ephemeral_storage"),
    "budget_usd": ("budget_limit_usd",),
    "max_hours": ("max_duration_hours",),
    "preemptible": ("preemptible",),
    "workers": ("workers",),
}


def _complete_gpu(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The usual ones; which others the estate has, only the manager knows."""
    return [gpu_type for gpu_type in sorted(GPU_TYPES) if gpu_type.startswith(incomplete)]


def job_options(command: Command) -> Command:
    """All that says which job; an option goes before the file's."""
    for option in reversed(
        [
            click.option("-f", "--filename", help="The job as YAML or JSON; - reads standard input."),
            click.option("--job", "job_json", help="The job as JSON."),
            click.option("--name", help="The job's name."),
            click.option("-n", "--project", help="Whose job it is: a namespace."),
            click.option("--priority", type=click.Choice([one.value for one in Priority])),
            click.option("--gpu", shell_complete=_complete_gpu, help="Which GPU, such as A100."),
            click.option("--gpus", type=click.IntRange(1), help="Cards, or MIG instances, of each worker."),
            click.option("--gpu-memory-gb", type=click.IntRange(1), help="The card's memory as it is sold."),
            click.option("--gpu-memory-mib", type=click.IntRange(1), help="MiB of a shared card."),
            click.option("--mig-profile", help="A part of a card, such as 1g.10gb."),
            click.option("--image", help="What runs."),
            click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="May be repeated."),
            click.option("--cpu", help='Cores, such as "16".'),
            click.option("--memory", help='Main memory, such as "128Gi".'),
            click.option("--ephemeral-storage", help='Room on disk, such as "500Gi".'),
            click.option("--budget-usd", type=click.FloatRange(0, min_open=True), help="Stop it when it cost so much."),
            click.option("--max-hours", type=click.FloatRange(0, min_open=True), help="Stop it after so long."),
            click.option("--preemptible/--on-demand", default=None, help="May it run on spot capacity?"),
            click.option("--workers", type=click.IntRange(1), help="Pods that start together."),
            click.argument("command", nargs=-1, metavar="[-- COMMAND...]"),
        ]
    ):
        command = option(command)
    return command


def requested(
    filename: str | None, job_json: str | None, env: tuple[str, ...], command: tuple[str, ...], **options: Any
) -> dict[str, Any]:
    """The request's body.

    Raises:
        InputError: a file or text that holds no job; names it.
    """
    if filename is not None and job_json is not None:
        raise click.UsageError("give -f or --job, not both")
    body: dict[str, Any] = {}
    if filename is not None:
        body = _read(_text(filename), f"-f {filename}")
    elif job_json is not None:
        body = _read(job_json, "--job")
    for name, place in _PLACES.items():
        if options.get(name) is not None:
            _put(body, place, options[name])
    for pair in env:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InputError(f"--env {pair}: NAME=VALUE is needed; write --env {pair}=...")
        _put(body, ("container", "env", key), value)
    if command:
        _put(body, ("container", "command"), list(command))
    if not body:
        raise click.UsageError("say which job: -f FILE, --job JSON, or --name, --project, --gpu, --image and the like")
    return body


def _text(filename: str) -> str:
    if filename == "-":
        return sys.stdin.read()
    try:
        return Path(filename).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"-f {filename}: {error}") from error


def _read(text: str, source: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if source == "--job" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{source}: it holds no job: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{source}: it holds a {type(found).__name__}; a job is a mapping with job_name and so on")
    return found


def _put(body: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for part in place[:-1]:
        inner = body.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InputError(f"{part} holds a {type(inner).__name__} where an option wants to set {'.'.join(place)}")
        body = inner
    body[place[-1]] = value
