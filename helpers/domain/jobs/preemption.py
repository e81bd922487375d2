"""What happens to a job whose place was taken away, and when it is told to save its state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from helpers.domain.jobs.job import Capacity, Job
from helpers.domain.jobs.spec import JobSpec
from helpers.domain.jobs.states import JobStatus

MOST_SPOT_RETRIES_COUNT = 3


@dataclass(frozen=True)
class Retry:
    """Wait again. `lost_seconds`: work that has to be done anew, since the last checkpoint."""

    capacity: Capacity
    lost_seconds: float
    reason: str


def first_capacity(spec: JobSpec, *, offers_spot: bool = True) -> Capacity:
    """Spot where the job may be interrupted, and there is any."""
    return "spot" if spec.preemptible and offers_spot else "on-demand"


def after_preemption(job: Job, now_at: datetime, most_retries_count: int = MOST_SPOT_RETRIES_COUNT) -> Retry:
    """How `job`, which just lost its place, goes on: on spot for `most_retries_count` more attempts, then on-demand.

    `job` is the job as it was while it still held its GPUs.
    """
    safe_at = job.checkpoint_at or job.started_at or now_at
    lost_seconds = max(0.0, (now_at - max(safe_at, job.started_at or safe_at)).total_seconds())
    if job.capacity == "spot" and job.attempt_count <= most_retries_count:
        text = f"retry {job.attempt_count} of {most_retries_count} on spot capacity"
        return Retry("spot", lost_seconds, text)
    if job.capacity == "spot":
        text = f"interrupted {job.attempt_count} times on spot capacity, so it goes on with on-demand"
        return Retry("on-demand", lost_seconds, text)
    return Retry("on-demand", lost_seconds, "its place was taken by somebody more urgent, or its node went")


def checkpoint_due(job: Job, now_at: datetime) -> bool:
    """Whether `job` is to be told now to save its state."""
    hook = job.spec.checkpoint
    if hook is None or job.status is not JobStatus.RUNNING or job.started_at is None:
        return False
    last_at = max(job.checkpoint_at or job.started_at, job.started_at)
    return (now_at - last_at).total_seconds() >= hook.interval_seconds
