"""From what is kept to what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from helpers.domain.cost.estimate import CostEstimate
from helpers.domain.errors import Problem
from helpers.domain.jobs.change import AuditEntry
from helpers.domain.jobs.estimates import Estimate
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.states import WAITING
from helpers.domain.jobs.views import AuditView, EstimateView, EventView, JobSubmitted, JobView, ProblemView


@dataclass(frozen=True)
class Spent:
    """What a job has taken until now: cards times the time over which they were held, and its price."""

    gpu_seconds: float
    usd: Decimal


def problem_view(problem: Problem) -> ProblemView:
    """For an answer."""
    return ProblemView(place=problem.path, value=problem.value, rule=problem.rule, repair=problem.repair)


def event_view(event: JobEvent) -> EventView:
    """For an answer."""
    return EventView(**{name: getattr(event, name) for name in EventView.model_fields})


def audit_view(entry: AuditEntry) -> AuditView:
    """For an answer."""
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})


def submitted_view(job: Job, start: Estimate | None, cost: CostEstimate) -> JobSubmitted:
    """For an answer."""
    return JobSubmitted.model_construct(**_submitted(job, start, cost))


def job_view(job: Job, start: Estimate | None, cost: CostEstimate, spent: Spent) -> JobView:
    """For an answer."""
    spec = job.spec
    return JobView.model_construct(
        **_submitted(job, start, cost),
        job_name=spec.job_name,
        project_id=spec.project_id,
        priority=spec.priority,
        gpu_requirements=spec.gpu_requirements,
        container=spec.container,
        resources=spec.resources,
        budget_limit_usd=spec.budget_limit_usd,
        max_duration_hours=spec.max_duration_hours,
        preemptible=spec.preemptible,
        workers=spec.workers,
        submitted_by=job.submitted_by,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempt_count=job.attempt_count,
        capacity_type=job.capacity,
        gpu_seconds=round(spent.gpu_seconds, 3),
        cost_usd=spent.usd,
        reason=job.reason,
    )


def _submitted(job: Job, start: Estimate | None, cost: CostEstimate) -> Mapping[str, Any]:
    waits = job.status in WAITING and start is not None
    return {
        "job_id": job.job_id,
        "status": job.status,
        "queue_position": start.position if waits and start else None,
        "estimated_start_time": start.starts_at if waits and start else None,
        "estimated_cost_usd": cost.likely_usd if cost.likely_usd is not None else cost.high_usd,
        "created_at": job.created_at,
        "estimate": EstimateView.model_construct(
            start_confidence=str(start.confidence) if waits and start else "none",
            start_basis=start.basis if waits and start else f"it is {job.status}",
            cost_confidence=str(cost.confidence),
            cost_basis=f"{cost.basis}: {cost.why}",
            cost_low_usd=cost.low_usd,
            cost_high_usd=cost.high_usd,
        ),
    }
