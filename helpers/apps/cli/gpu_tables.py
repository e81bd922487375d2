"""Jobs, queues and money for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from helpers.apps.cli.output import coloured, table
from helpers.domain.jobs.states import JobStatus
from helpers.domain.jobs.views import (
    AuditView,
    EventView,
    JobSubmitted,
    JobView,
    ProjectUsage,
    QueueList,
    QuotaView,
)

_COLOURS = {
    JobStatus.RUNNING: "green",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.PREEMPTED: "yellow",
}
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def span_text(seconds: float) -> str:
    """The two largest units, as kubectl writes ages: `3d4h`, `12m5s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return "".join(part for part in parts if not part.startswith("0")) or "0s"


def gpus_text(job: JobView) -> str:
    """`4 x A100 80GB`, `2 x 1g.10gb of A100`, `6000 MiB of T4`; with workers in front."""
    wanted = job.gpu_requirements
    if wanted.gpu_memory_mib is not None:
        text = f"{wanted.gpu_memory_mib} MiB of {wanted.gpu_type}"
    elif wanted.mig_profile is not None:
        text = f"{wanted.gpu_count} x {wanted.mig_profile} of {wanted.gpu_type}"
    else:
        text = f"{wanted.gpu_count} x {wanted.gpu_type} {wanted.size_gb}GB"
    return f"{job.workers} x ({text})" if job.workers > 1 else text


def jobs_table(jobs: Sequence[JobView], output: str, now_at: datetime) -> str:
    """One line a job."""
    rows = [
        {
            "job": job.job_id,
            "name": job.job_name,
            "project": job.project_id,
            "priority": job.priority,
            "gpus": gpus_text(job),
            "status": _status(job.status, output),
            "position": "" if job.queue_position is None else str(job.queue_position),
            "age": span_text((now_at - job.created_at).total_seconds()),
            "cost usd": _usd(job.cost_usd),
        }
        for job in jobs
    ]
    return table(rows, output, right=("position", "age", "cost usd"))


def submitted_text(done: JobSubmitted) -> str:
    """One or two lines."""
    position = f", position {done.queue_position}" if done.queue_position is not None else ""
    starts = f", starts about {_instant(done.estimated_start_time)}" if done.estimated_start_time else ""
    cost = f", costs about {_usd(done.estimated_cost_usd)} USD" if done.estimated_cost_usd is not None else ""
    confidence = f" (confidence: start {done.estimate.start_confidence}, cost {done.estimate.cost_confidence})"
    return f"{done.job_id} is {done.status}{position}{starts}{cost}{confidence if starts or cost else ''}"


def job_text(job: JobView, events: Iterable[EventView]) -> str:
    """A job, field by field, and its history."""
    starts_at = job.estimated_start_time
    fields = {
        "Job": job.job_id,
        "Name": job.job_name,
        "Project": job.project_id,
        "Submitted": f"{_instant(job.created_at)} by {job.submitted_by}",
        "Status": f"{_status(job.status, 'table')}" + (f": {job.reason}" if job.reason else ""),
        "Position": "" if job.queue_position is None else str(job.queue_position),
        "Starts": f"{_instant(starts_at)}, {job.estimate.start_basis}" if starts_at else "",
        "GPUs": gpus_text(job),
        "Capacity": f"{job.capacity_type}, attempt {job.attempt_count}",
        "Image": job.container.image,
        "Command": " ".join(job.container.command),
        "Started": _instant(job.started_at),
        "Ended": _instant(job.ended_at),
        "Cost": f"{_usd(job.cost_usd)} USD"
        + (f" of about {_usd(job.estimated_cost_usd)}" if job.estimated_cost_usd is not None else ""),
    }
    width = max(map(len, fields)) + 2
    lines = [f"{name + ':':<{width}}{value}" for name, value in fields.items() if value]
    rows = [{"at": _instant(one.at), "what": one.kind, "by": one.actor, "message": one.message} for one in events]
    return "\n".join([*lines, *(["", table(rows, "table")] if rows else [])])


def queues_table(found: QueueList, output: str) -> str:
    """One line a pool."""
    rows = [
        {
            "pool": queue.pool,
            "capacity": "unknown" if queue.capacity is None else str(queue.capacity),
            "held": str(queue.held),
            "waiting": str(queue.waiting_count),
            "own": str(queue.own_waiting_count),
            "longest wait": span_text(queue.longest_wait_seconds) if queue.waiting_count else "",
        }
        for queue in found.queues
    ]
    return table(rows, output, right=("capacity", "held", "waiting", "own", "longest wait"))


def quotas_table(quotas: Sequence[QuotaView], output: str) -> str:
    """One line a project."""
    rows = [
        {
            "project": one.project_id,
            "weight": f"{one.weight:g}",
            "gpus held": f"{one.gpus_held:g}",
            "quota": "none" if one.gpu_quota_count is None else str(one.gpu_quota_count),
            "waiting": str(one.waiting_count),
            "spent usd": _usd(one.spent_usd_this_month),
            "budget usd": "none" if one.budget_usd_per_month is None else _usd(one.budget_usd_per_month),
        }
        for one in quotas
    ]
    return table(rows, output, right=("weight", "gpus held", "quota", "waiting", "spent usd", "budget usd"))


def audit_table(entries: Sequence[AuditView], output: str) -> str:
    """One line a change."""
    rows = [
        {
            "sequence": str(one.sequence),
            "at": _instant(one.at),
            "by": one.actor,
            "what": one.action,
            "project": one.project_id,
            "subject": one.subject,
            "change": ", ".join(
                f"{key}: {'' if before is None else f'{before} -> '}{value}"
                for key, value in (one.after or {}).items()
                for before in [(one.before or {}).get(key)]
            ),
        }
        for one in entries
    ]
    return table(rows, output, right=("sequence",))


def usage_text(used: ProjectUsage, output: str) -> str:
    """What a project held of each pool, and all of it together."""
    rows = [
        {
            "pool": row.pool,
            "capacity": row.capacity_type,
            "gpu hours": f"{row.gpu_hours:.2f}",
            "cost usd": "unknown" if row.cost_usd is None else _usd(row.cost_usd),
        }
        for row in used.usage
    ]
    jobs = ", ".join(f"{count} {status}" for status, count in used.jobs.items()) or "no jobs"
    at_least = "" if used.cost_complete else "at least "
    head = f"{used.project_id}, {_instant(used.from_at)} to {_instant(used.to_at)}: {jobs}"
    total = f"{used.gpu_hours:.2f} GPU hours, {at_least}{_usd(used.cost_usd)} USD"
    return "\n".join(part for part in (head, table(rows, output, right=("gpu hours", "cost usd")), total) if part)


def _status(status: JobStatus, output: str) -> str:
    return coloured(status, _COLOURS[status]) if output == "table" and status in _COLOURS else str(status)


def _instant(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else ""


def _usd(amount: object) -> str:
    return f"{amount:.2f}"
