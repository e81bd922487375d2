"""What is not about one job: history, queues, usage, quotas, prices."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from helpers.apps.manager.answers import refusals, shown
from helpers.apps.manager.routes_jobs import PLAIN, After, Limit, ProjectIds, past_span
from helpers.apps.manager.views import audit_view, event_view
from helpers.apps.manager.world import ApiWorld
from helpers.domain.cost.money import Month
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.states import JobStatus
from helpers.domain.jobs.views import (
    AuditList,
    EventList,
    PriceList,
    PriceView,
    ProjectUsage,
    QueueList,
    QueueView,
    QuotaList,
    QuotaView,
    UsageView,
)
from helpers.ports.leases import Caller
from helpers.services.manager_money import month_cost, total

LONGEST_SPAN_DAYS = 400


def project_routes(world: ApiWorld) -> APIRouter:
    """The operations beside those on jobs."""
    routes = APIRouter(prefix="/api/v1/gpu", tags=["projects"])
    from_token = Depends(world.caller)

    @routes.get("/events", responses={200: {"model": EventList}, **refusals(403)})
    def events(
        project_id: ProjectIds = None,
        after: After = 0,
        limit: Limit = 100,
        latest: Annotated[bool, Query(description="Of more than `limit` entries the last, not the first.")] = False,
        caller: Caller = from_token,
    ) -> Response:
        """The history of all your jobs, oldest first; ask again with the last sequence, and nothing is missed."""
        projects = world.gate.projects(caller, project_id)
        entries = world.store.events(sorted(projects), job_id=None, after_sequence=after, limit=limit, latest=latest)
        return shown(EventList(events=[event_view(entry) for entry in entries]))

    @routes.get("/audit", responses={200: {"model": AuditList}, **refusals(403)})
    def audit(
        project_id: ProjectIds = None, after: After = 0, limit: Limit = 100, caller: Caller = from_token
    ) -> Response:
        """Who changed what in your projects, oldest first; nothing in it is ever changed or removed."""
        projects = world.gate.projects(caller, project_id)
        entries = world.store.audit(sorted(projects), after_sequence=after, limit=limit)
        return shown(AuditList(entries=[audit_view(entry) for entry in entries]))

    @routes.get("/queues", responses={200: {"model": QueueList}, **refusals()})
    def queues(caller: Caller = from_token) -> Response:
        """Pools of GPUs, how much of them is held, and how many wait. Whose jobs those are is not told."""
        return shown(_queues(world, world.gate.projects(caller)))

    @routes.get("/projects/{project_id}/usage", responses={200: {"model": ProjectUsage}, **refusals(403)})
    def usage(
        project_id: Annotated[str, Path(max_length=63, pattern=PLAIN)],
        from_at: Annotated[datetime | None, Query(alias="from", description="Absent: the month's beginning.")] = None,
        to_at: Annotated[datetime | None, Query(alias="to", description="Absent: now.")] = None,
        caller: Caller = from_token,
    ) -> Response:
        """What a project held and what that cost, from the time that GPUs were really held."""
        world.gate.let(caller, "list", project_id)
        begin_at, end_at = past_span(world, from_at, to_at, LONGEST_SPAN_DAYS, lambda end: Month.of(end).from_at)
        return shown(_usage(world, project_id, begin_at, end_at))

    @routes.get("/quotas", responses={200: {"model": QuotaList}, **refusals(403)})
    def quotas(project_id: ProjectIds = None, caller: Caller = from_token) -> Response:
        """What your projects may hold and spend, and what of it they do."""
        projects = world.gate.projects(caller, project_id)
        return shown(QuotaList(quotas=[_quota(world, one) for one in world.settings.projects if one.name in projects]))

    @routes.get("/pricing", responses={200: {"model": PriceList}, **refusals()})
    def pricing(_: Caller = from_token) -> Response:
        """What cards cost here now."""
        return shown(_prices(world))

    return routes


def _queues(world: ApiWorld, own: frozenset[str]) -> QueueList:
    last, now_at = world.board.last, world.clock.now_at()
    held: Counter[Pool] = Counter()
    for one in last.holding:
        held[one.demand.pool] += one.demand.amount
    running = Counter(row.demand.pool for row in last.rows if row.status is JobStatus.RUNNING)
    waits: dict[Pool, list[float]] = defaultdict(list)
    mine: Counter[Pool] = Counter()
    for job in last.order:
        waits[job.demand.pool].append(max(0.0, (now_at - job.queued_at).total_seconds()))
        mine[job.demand.pool] += int(job.project_id in own)
    rows = [
        QueueView(
            pool=pool.name,
            capacity=last.capacity.get(pool),
            held=held[pool],
            running_count=running[pool],
            waiting_count=len(waits.get(pool, ())),
            longest_wait_seconds=round(max(waits.get(pool, ()), default=0.0), 3),
            own_waiting_count=mine[pool],
        )
        for pool in sorted({*last.capacity, *held, *waits})
    ]
    engine = world.engine.name if world.engine is not None else "none"
    return QueueList(engine=engine, policy=world.settings.policy.value, looked_at=last.at, queues=rows)


def _usage(world: ApiWorld, project_id: str, from_at: datetime, to_at: datetime) -> ProjectUsage:
    rows = world.purse.usage(world.store.held([project_id], from_at, to_at), from_at, to_at)
    cost = total(rows)
    return ProjectUsage(
        project_id=project_id,
        from_at=from_at,
        to_at=to_at,
        gpu_hours=round(sum(row.gpu_seconds for row in rows) / 3600, 6),
        cost_usd=cost.known_usd,
        cost_complete=cost.complete,
        jobs={status.value: count for status, count in world.store.counts([project_id], from_at, to_at).items()},
        usage=[
            UsageView(
                pool=row.pool,
                capacity_type=row.capacity,
                gpu_hours=round(row.gpu_seconds / 3600, 6),
                cost_usd=row.cost.usd,
            )
            for row in rows
        ],
    )


def _quota(world: ApiWorld, project: Project) -> QuotaView:
    last, now_at = world.board.last, world.clock.now_at()
    spent = month_cost(world.store, world.purse, project.name, now_at)
    return QuotaView(
        project_id=project.name,
        weight=project.weight,
        gpu_quota_count=project.gpu_quota_count,
        gpus_held=round(sum(one.demand.gpu_count() for one in last.holding if one.project_id == project.name), 4),
        waiting_count=sum(job.project_id == project.name for job in last.order),
        budget_usd_per_month=project.budget_usd_per_month,
        spent_usd_this_month=spent.known_usd,
    )


def _prices(world: ApiWorld) -> PriceList:
    now_at, rows = world.clock.now_at(), []
    for row in world.purse.priced(now_at).rows:
        spot = world.purse.history.at(row.gpu, CapacityType.SPOT, now_at)
        if spot is None:
            continue
        rows.append(
            PriceView(
                gpu=row.gpu,
                gpu_type=row.gpu_type,
                memory_gb=row.marketed_gb,
                on_demand_usd_per_hour=row.usd_per_gpu_hour,
                spot_usd_per_hour=spot.usd_per_gpu_hour,
                source=row.source,
            )
        )
    return PriceList(table=world.purse.table.name, prices=rows)
