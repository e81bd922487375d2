"""Advice about a project's work, from the manager's own history."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from helpers.domain.cost.advice import Advice, Work, advise
from helpers.domain.cost.price_table import least_mib
from helpers.domain.jobs.gpus import Demand, Pool
from helpers.domain.jobs.spec import GpuRequirements
from helpers.domain.jobs.states import WAITING
from helpers.ports.job_store import JobStore, Worked
from helpers.services.manager_money import Purse


def project_advice(
    store: JobStore,
    purse: Purse,
    project_id: str,
    from_at: datetime,
    to_at: datetime,
    reserved_discount_ratio: Decimal | None = None,
) -> Advice:
    """The advice.

    Raises:
        DependencyError: the database does not answer.
    """
    works = [_work(one, purse) for one in store.worked([project_id], from_at, to_at)]
    return advise(works, purse.history, purse.priced(to_at), from_at, to_at, reserved_discount_ratio)


def _work(one: Worked, purse: Purse) -> Work:
    held, spec = one.attempt, one.spec
    pool = Pool(held.gpu_type, held.size_gb, held.kind, held.profile)  # type: ignore[arg-type] # as it was kept
    segment = purse.segment(Demand(pool, held.amount), held.capacity, held.from_at, held.to_at, held.job_id)
    redone = timedelta(0)
    if held.to_at is not None and (one.attempt_count > held.attempt or one.status in WAITING):
        redone = held.to_at - held.from_at
        if spec.checkpoint is not None:
            redone = min(redone, timedelta(seconds=spec.checkpoint.interval_seconds))
    return Work(segment, held.gpu_type, spec.preemptible, _need_mib(spec.gpu_requirements), redone)


def _need_mib(asked: GpuRequirements) -> int | None:
    """What it asked for on one card; GB are read as the least that a card of that name has."""
    if asked.gpu_memory_mib is not None:
        return asked.gpu_memory_mib
    if asked.mig_profile is not None:
        return least_mib(int(asked.mig_profile.partition("g.")[2].partition("gb")[0]))
    return None if asked.gpu_memory_gb is None else least_mib(asked.gpu_memory_gb)
