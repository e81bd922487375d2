"""What ends a job before it ends itself: time, money, and a GPU that it does not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from helpers.domain.jobs.job import Job
from helpers.domain.jobs.states import HOLDING, JobStatus

WARN_RATIO = 0.8


class Limit(StrEnum):
    """Which limit; the word in the history."""

    DURATION = "max_duration"
    BUDGET = "budget_limit"
    IDLE = "idle"


@dataclass(frozen=True)
class LimitRules:
    """What holds where a job does not say. `idle_ratio`: a GPU that does less than this is idle."""

    max_duration_hours: float = 24.0
    idle_ratio: float = 0.05
    idle_seconds: float = 1800.0
    longest_gap_seconds: float = 120.0
    """Between two samples; what happened in a longer gap is unknown, and unknown is not idle."""


@dataclass(frozen=True)
class Sample:
    """What all the job's GPUs did at `at`: the busiest one's utilisation, 0-1. None: it could not be read."""

    at: datetime
    busiest_ratio: float | None


@dataclass(frozen=True)
class Stop:
    """End the job now."""

    limit: Limit
    reason: str


@dataclass(frozen=True)
class Warn:
    """Tell the job's owner, once for each limit."""

    limit: Limit
    reason: str


def check_limits(
    job: Job, cost_usd: Decimal | None, samples: Sequence[Sample], rules: LimitRules, now_at: datetime
) -> Stop | tuple[Warn, ...]:
    """Whether `job` is to be stopped, else what its owner is to be warned of.

    Args:
        job: Nothing is limited while it holds no GPUs.
        cost_usd: What it cost until now, all attempts; None: unknown, and then money stops nothing.
        samples: Utilisation of the present attempt, oldest first.
        rules: The estate's.
        now_at: Now.
    """
    if job.status not in HOLDING:
        return ()
    found = [
        verdict
        for verdict in (_duration(job, rules, now_at), _budget(job, cost_usd), _idle(job, samples, rules, now_at))
        if verdict is not None
    ]
    stops = [verdict for verdict in found if isinstance(verdict, Stop)]
    if stops:
        return stops[0]
    return tuple(verdict for verdict in found if isinstance(verdict, Warn) and verdict.limit not in job.warned)


def _duration(job: Job, rules: LimitRules, now_at: datetime) -> Stop | Warn | None:
    most_seconds = job.spec.most_seconds(rules.max_duration_hours)
    held_seconds = job.held_until_seconds(now_at)
    text = f"it has held its GPUs for {held_seconds / 3600:.2f} h of max_duration_hours {most_seconds / 3600:g}"
    if held_seconds >= most_seconds:
        return Stop(Limit.DURATION, text)
    return Warn(Limit.DURATION, text) if held_seconds >= WARN_RATIO * most_seconds else None


def _budget(job: Job, cost_usd: Decimal | None) -> Stop | Warn | None:
    most_usd = job.spec.budget_limit_usd
    if most_usd is None or cost_usd is None:
        return None
    text = f"it has cost {cost_usd:.2f} USD of budget_limit_usd {most_usd:.2f}"
    if cost_usd >= most_usd:
        return Stop(Limit.BUDGET, text)
    return Warn(Limit.BUDGET, text) if cost_usd >= Decimal(str(WARN_RATIO)) * most_usd else None


def _idle(job: Job, samples: Sequence[Sample], rules: LimitRules, now_at: datetime) -> Stop | Warn | None:
    if job.status is not JobStatus.RUNNING:
        return None  # its pods wait for a node: there is nothing to use yet
    since_at = idle_since(samples, rules, now_at)
    if since_at is None:
        return None
    idle_seconds = (now_at - since_at).total_seconds()
    minutes = f"{idle_seconds / 60:.0f} min of {rules.idle_seconds / 60:.0f}"
    text = f"its GPUs did less than {rules.idle_ratio:.0%} for {minutes}"
    if idle_seconds >= rules.idle_seconds:
        return Stop(Limit.IDLE, text)
    return Warn(Limit.IDLE, text) if idle_seconds >= WARN_RATIO * rules.idle_seconds else None


def idle_since(samples: Sequence[Sample], rules: LimitRules, now_at: datetime) -> datetime | None:
    """Since when every sample without a gap was idle; None: it is not, or nobody knows."""
    longest = timedelta(seconds=rules.longest_gap_seconds)
    since_at: datetime | None = None
    later_at = now_at
    for sample in reversed(samples):
        if later_at - sample.at > longest or sample.busiest_ratio is None or sample.busiest_ratio >= rules.idle_ratio:
            break
        since_at = later_at = sample.at
    return since_at
