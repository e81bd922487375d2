"""Jobs as rows, and rows as jobs."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import RowMapping as Row

from helpers.domain.jobs.change import AuditEntry, Change, HeldAttempt, OutboxAction, OutboxRow
from helpers.domain.jobs.gpus import AskKind, Demand, Pool
from helpers.domain.jobs.job import Capacity, Job, JobEvent
from helpers.domain.jobs.spec import JobSpec, Priority
from helpers.domain.jobs.states import JobStatus
from helpers.ports.job_store import FinishedRun, QueueRow, Worked

# What a step may change; the rest of a job is as it was asked for.
CHANGING = (
    "status",
    "queued_at",
    "started_at",
    "first_started_at",
    "ended_at",
    "held_seconds",
    "attempt_count",
    "capacity",
    "cost_usd",
    "checkpoint_at",
    "reason",
    "version",
)


def job_row(job: Job) -> dict[str, Any]:
    """All columns of a new job."""
    demand, spec = job.spec.demand, job.spec
    return {
        "job_id": job.job_id,
        "project_id": job.project_id,
        "job_name": spec.job_name,
        "priority": spec.priority.value,
        "worker_amount": demand.worker_amount,
        "workers": demand.workers,
        "max_duration_hours": spec.max_duration_hours,
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "submitted_by": job.submitted_by,
        "created_at": job.created_at,
        **pool_row(demand.pool),
        **changing_row(job),
    }


def changing_row(job: Job) -> dict[str, Any]:
    """The columns that a step may change."""
    return {name: getattr(job, name) for name in CHANGING} | {"warned": list(job.warned), "status": job.status.value}


def pool_row(pool: Pool) -> dict[str, Any]:
    """The columns that name a pool."""
    return {"gpu_type": pool.gpu_type, "size_gb": pool.size_gb, "kind": pool.kind, "profile": pool.profile}


def job_of(row: Row) -> Job:
    """A whole job."""
    return Job(
        job_id=row["job_id"],
        spec=JobSpec.model_validate(row["spec"]),
        submitted_by=row["submitted_by"],
        created_at=row["created_at"],
        warned=tuple(row["warned"]),
        **{name: row[name] for name in CHANGING if name not in ("status", "capacity")},
        status=JobStatus(row["status"]),
        capacity=cast("Capacity", row["capacity"]),
    )


def demand_of(row: Row) -> Demand:
    """What the job takes."""
    pool = Pool(row["gpu_type"], row["size_gb"], cast("AskKind", row["kind"]), row["profile"])
    return Demand(pool, row["worker_amount"], row["workers"])


_PRIORITIES = {priority.value: priority for priority in Priority}
_STATUSES = {status.value: status for status in JobStatus}
QUEUE_COLUMNS = (
    *("job_id", "project_id", "job_name", "priority", "status", "created_at", "queued_at", "started_at"),
    *("held_seconds", "max_duration_hours", "gpu_type", "size_gb", "kind", "profile", "worker_amount", "workers"),
    "capacity",
)


def queue_row(row: Row, demands: dict[tuple[object, ...], Demand]) -> QueueRow:
    """A job as the queue needs it. `demands`: those that were made already; thousands of jobs share a few."""
    key = (row["gpu_type"], row["size_gb"], row["kind"], row["profile"], row["worker_amount"], row["workers"])
    demand = demands.get(key)
    if demand is None:
        demand = demands[key] = demand_of(row)
    return QueueRow(
        job_id=row["job_id"],
        project_id=row["project_id"],
        job_name=row["job_name"],
        priority=_PRIORITIES[row["priority"]],
        status=_STATUSES[row["status"]],
        created_at=row["created_at"],
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        held_seconds=row["held_seconds"],
        demand=demand,
        max_duration_hours=row["max_duration_hours"],
        capacity=row["capacity"],
    )


def finished_run(row: Row) -> FinishedRun:
    """How long a job took."""
    return FinishedRun(row["project_id"], row["job_name"], demand_of(row), row["held_seconds"])


def event_row(event: JobEvent, project_id: str) -> dict[str, Any]:
    """A new entry of the history."""
    return {
        "job_id": event.job_id,
        "project_id": project_id,
        "at": event.at,
        "kind": event.kind,
        "message": event.message,
        "actor": event.actor,
    }


def event_of(row: Row) -> JobEvent:
    """An entry of the history."""
    return JobEvent(row["job_id"], row["at"], row["kind"], row["message"], row["actor"], row["sequence"])


def audit_row(entry: AuditEntry) -> dict[str, Any]:
    """A new entry of the audit log."""
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "project_id": entry.project_id,
        "subject": entry.subject,
        "before": None if entry.before is None else dict(entry.before),
        "after": None if entry.after is None else dict(entry.after),
    }


def audit_of(row: Row) -> AuditEntry:
    """An entry of the audit log."""
    return AuditEntry(**{name: row[name] for name in AuditEntry.__dataclass_fields__})


def outbox_row(row: OutboxRow) -> dict[str, Any]:
    """A new act."""
    return {
        "job_id": row.job_id,
        "action": row.action.value,
        "created_at": row.created_at,
        "due_at": row.created_at,
        "tries_count": 0,
        "last_error": "",
    }


def outbox_of(row: Row) -> OutboxRow:
    """An act."""
    return OutboxRow(
        job_id=row["job_id"],
        action=OutboxAction(row["action"]),
        created_at=row["created_at"],
        sequence=row["sequence"],
        tries_count=row["tries_count"],
        last_error=row["last_error"],
    )


def attempt_row(change: Change) -> dict[str, Any]:
    """An attempt that begins."""
    job = change.new
    return {
        "job_id": job.job_id,
        "attempt": job.attempt_count,
        "project_id": job.project_id,
        "amount": job.spec.demand.amount,
        "capacity": job.capacity,
        "from_at": change.at,
        "to_at": None,
        **pool_row(job.spec.demand.pool),
    }


def attempt_of(row: Row) -> HeldAttempt:
    """An attempt."""
    return HeldAttempt(**{name: row[name] for name in HeldAttempt.__dataclass_fields__})


def worked_of(row: Row) -> Worked:
    """An attempt with its job."""
    spec = JobSpec.model_validate(row["spec"])
    return Worked(attempt_of(row), spec, _STATUSES[row["status"]], row["attempt_count"])
