"""`gpumem gpu ...`: GPU jobs of the manager."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.gpu_advice import advice_text
from helpers.apps.cli.gpu_options import complete_job, job_argument, manager_options, project_option
from helpers.apps.cli.gpu_request import job_options, requested
from helpers.apps.cli.gpu_run import followed, signals_stop
from helpers.apps.cli.gpu_tables import (
    audit_table,
    job_text,
    jobs_table,
    queues_table,
    quotas_table,
    submitted_text,
    usage_text,
)
from helpers.apps.cli.output import emit_data, output_option
from helpers.domain.jobs.spec import Priority
from helpers.domain.jobs.states import JobStatus
from helpers.domain.jobs.views import View
from helpers.sdk.gpu import GPUJobClient, JobFailed
from helpers.sdk.gpu_wire import checked


@click.group()
def gpu() -> None:
    """Submit, watch and cancel GPU jobs."""


def _values(words: type[StrEnum]) -> list[str]:
    """As they are written; click would offer the members' names."""
    return [word.value for word in words]


@gpu.command("submit")
@job_options
@click.option("--idempotency-key", help="The same key is the same job for ever: a script that is run again needs one.")
@click.option("--dry-run", is_flag=True, help="Check the request here; submit nothing.")
@click.option("--wait", is_flag=True, help="Until the job is over; exit 1 where it did not complete.")
@click.option("--timeout", "timeout_seconds", type=click.FloatRange(0), help="Seconds to wait; then exit 1.")
@click.option("--cancel-when-stopped", is_flag=True, help="With --wait: SIGTERM and Ctrl-C cancel the job.")
@click.option("--job-id-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the job's id there.")
@output_option
@manager_options
def gpu_submit(
    client: GPUJobClient,
    idempotency_key: str | None,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float | None,
    cancel_when_stopped: bool,
    job_id_file: Path | None,
    output: str,
    **request: Any,
) -> None:
    """Submit a job: from a file, as JSON, or by options, with its command after `--`."""
    if (timeout_seconds is not None or cancel_when_stopped) and not wait:
        raise click.UsageError("--timeout and --cancel-when-stopped need --wait")
    document = requested(**request)
    if dry_run:
        spec = checked(document)
        data = spec.model_dump(mode="json", exclude_none=True)
        if not emit_data(data, output):
            asked = spec.gpu_requirements  # without a size the manager says which there is
            wanted = f"{spec.demand.gpu_count():g} of {spec.demand.pool.name}" if asked.size_gb else asked.gpu_type
            click.echo(f"{spec.job_name} is well-formed: {wanted} (dry run)")
        return
    done = client.submit(document, idempotency_key=idempotency_key)
    if job_id_file is not None:
        job_id_file.parent.mkdir(parents=True, exist_ok=True)
        job_id_file.write_text(done.job_id, encoding="utf-8")
    if not wait:
        _show(done, output, lambda: submitted_text(done))
        return
    click.echo(submitted_text(done), err=True)
    with signals_stop():
        job = followed(client, done.job_id, timeout_seconds, cancel_when_stopped=cancel_when_stopped)
    _show(job, output, lambda: job_text(job, ()))
    if job.status is not JobStatus.COMPLETED:
        raise JobFailed(job)


@gpu.command("list")
@project_option
@click.option(
    "--status", "statuses", type=click.Choice([one.value for one in JobStatus]), multiple=True, help="May be repeated."
)
@click.option("--priority", type=click.Choice([one.value for one in Priority]))
@click.option("--name", "job_name", help="Jobs of exactly that name.")
@click.option("--user", "submitted_by", help="Whose jobs.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@output_option
@manager_options
def gpu_list(
    client: GPUJobClient,
    projects: tuple[str, ...],
    statuses: tuple[str, ...],
    priority: str | None,
    job_name: str | None,
    submitted_by: str | None,
    limit: int,
    output: str,
) -> None:
    """List jobs, newest first."""
    found = client.list(
        project_id=projects,
        status=statuses,
        priority=priority,
        job_name=job_name,
        submitted_by=submitted_by,
        page_count=min(limit, 200),
    )
    jobs = [job for _, job in zip(range(limit), found, strict=False)]
    if not emit_data([job.model_dump(mode="json") for job in jobs], output):
        click.echo(jobs_table(jobs, output, datetime.now(UTC)) or "no jobs")


@gpu.command("get")
@job_argument
@output_option
@manager_options
def gpu_get(client: GPUJobClient, job_id: str, output: str) -> None:
    """Show a job and its history."""
    job = client.get(job_id)
    _show(job, output, lambda: job_text(job, client.events(job_id)))


@gpu.command("logs")
@job_argument
@click.option("--tail", "tail_lines", type=click.IntRange(1, 10_000), default=500, show_default=True)
@click.option("--worker", type=click.IntRange(0), default=0, show_default=True, help="Which of its pods.")
@manager_options
def gpu_logs(client: GPUJobClient, job_id: str, tail_lines: int, worker: int) -> None:
    """Print the end of a worker's output."""
    click.echo(client.logs(job_id, tail_lines=tail_lines, worker=worker), nl=False)


@gpu.command("cancel")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
@click.option("--dry-run", is_flag=True, help="Say which jobs would be cancelled; cancel none.")
@manager_options
def gpu_cancel(client: GPUJobClient, job_ids: tuple[str, ...], dry_run: bool) -> None:
    """End jobs. One that is cancelled already is no error."""
    for job_id in job_ids:
        job = client.get(job_id) if dry_run else client.cancel(job_id)
        click.echo(f"{job.job_id} ({job.job_name}) is {job.status}" + (", would be cancelled (dry run)" * dry_run))


@gpu.command("usage")
@click.argument("project", required=False)
@click.option("--from", "from_at", type=click.DateTime(), help="In UTC; absent: the month's beginning.")
@click.option("--to", "to_at", type=click.DateTime(), help="In UTC; absent: now.")
@output_option
@manager_options
def gpu_usage(
    client: GPUJobClient, project: str | None, from_at: datetime | None, to_at: datetime | None, output: str
) -> None:
    """Show what a project held and spent; without PROJECT, quotas and budgets of all that you may list."""
    if project is None:
        if from_at or to_at:
            raise click.UsageError("--from and --to need PROJECT")
        quotas = list(client.quotas())
        if not emit_data([one.model_dump(mode="json") for one in quotas], output):
            click.echo(quotas_table(quotas, output) or "no projects")
        return
    used = client.usage(project, from_at=_utc(from_at), to_at=_utc(to_at))
    _show(used, output, lambda: usage_text(used, output))


@gpu.command("advice")
@click.argument("project")
@click.option("--from", "from_at", type=click.DateTime(), help="In UTC; absent: four weeks before --to.")
@click.option("--to", "to_at", type=click.DateTime(), help="In UTC; absent: now.")
@click.option(
    "--reserved-discount",
    "reserved_discount_ratio",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="By which part an offer of reserved capacity is cheaper, such as 0.4; absent: nothing is said about it.",
)
@output_option
@manager_options
def gpu_advice(
    client: GPUJobClient,
    project: str,
    from_at: datetime | None,
    to_at: datetime | None,
    reserved_discount_ratio: float | None,
    output: str,
) -> None:
    """Show what a project could save, from what it held. Nothing acts on it."""
    found = client.advice(
        project, from_at=_utc(from_at), to_at=_utc(to_at), reserved_discount_ratio=reserved_discount_ratio
    )
    _show(found, output, lambda: advice_text(found, output))


@gpu.command("audit")
@project_option
@click.option("--after", type=click.IntRange(0), default=0, help="Only what comes after that sequence.")
@output_option
@manager_options
def gpu_audit(client: GPUJobClient, projects: tuple[str, ...], after: int, output: str) -> None:
    """Show who changed what, oldest first."""
    entries = list(client.audit(project_id=projects, after=after))
    if not emit_data([one.model_dump(mode="json") for one in entries], output):
        click.echo(audit_table(entries, output) or "no entries")


@gpu.command("queues")
@output_option
@manager_options
def gpu_queues(client: GPUJobClient, output: str) -> None:
    """Show pools of GPUs, what is held of them, and how many jobs wait."""
    found = client.queues()
    _show(found, output, lambda: queues_table(found, output) or "no queues")


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None else None


def _show(view: View, output: str, text: Callable[[], str]) -> None:
    if not emit_data(view.model_dump(mode="json"), output):
        click.echo(text())
