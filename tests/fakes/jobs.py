"""Jobs for tests: what is not said is ordinary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from helpers.domain.jobs.gpus import Demand, Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.ordering import Holding, Waiting
from helpers.domain.jobs.spec import JobSpec, Priority, read_spec
from helpers.domain.jobs.states import JobStatus

NOON = datetime(2026, 2, 8, 12, tzinfo=UTC)
A100 = Pool("A100", 80)

# The example of the API, word for word.
EXAMPLE: dict[str, Any] = {
    "job_name": "finetune_llama_7b",
    "project_id": "ml-research",
    "priority": "high",
    "gpu_requirements": {"gpu_type": "A100", "gpu_count": 4, "gpu_memory_gb": 80},
    "container": {
        "image": "nvcr.io/nvidia/pytorch:24.01-py3",
        "command": ["python", "train.py"],
        "env": {"CUDA_VISIBLE_DEVICES": "0,1,2,3"},
    },
    "resources": {"cpu": "16", "memory": "128Gi", "ephemeral_storage": "500Gi"},
    "budget_limit_usd": 100.0,
    "max_duration_hours": 24,
    "preemptible": True,
}


def after(seconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(seconds=seconds)


def document(**changes: Any) -> dict[str, Any]:
    """A small request."""
    small = {"job_name": "train", "project_id": "vision", "gpu_requirements": {"gpu_type": "A100", "gpu_memory_gb": 80}}
    return {**small, "container": {"image": "registry.example.com/train:1"}, **changes}


def spec(**changes: Any) -> JobSpec:
    """The same, read."""
    return read_spec(document(**changes))


def job(job_id: str = "gpu-job-1", status: JobStatus = JobStatus.PENDING, **changes: Any) -> Job:
    """A job; fields of its spec go in `spec`."""
    base: dict[str, Any] = {"spec": spec(), "created_at": NOON, "queued_at": NOON, "submitted_by": "alice"}
    return Job(job_id=job_id, status=status, **{**base, **changes})


def waiting(job_id: str, project: str = "vision", gpus: int = 1, **changes: Any) -> Waiting:
    """A job that waits since noon for A100s, at most an hour long."""
    base: dict[str, Any] = {"priority": Priority.MEDIUM, "queued_at": NOON, "most_seconds": 3600.0}
    given = {**base, "demand": Demand(A100, gpus), **changes}
    return Waiting(job_id=job_id, project_id=project, **given)


def holding(job_id: str, project: str = "vision", gpus: int = 1, ends_at: datetime | None = None) -> Holding:
    """A job that has A100s."""
    return Holding(job_id, project, Demand(A100, gpus), ends_at or after(3600))
