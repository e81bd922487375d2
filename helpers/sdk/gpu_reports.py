"""What both clients of the manager ask that is not about one job: queues, money, and who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from helpers.domain.jobs.advice_views import ProjectAdvice
from helpers.domain.jobs.views import AuditList, PriceList, ProjectUsage, QueueList, QuotaList
from helpers.sdk.gpu_wire import BASE, PAGE_COUNT, Call, view_of


def queues() -> Call[QueueList]:
    """Pools, and who waits for them."""
    return Call("GET", f"{BASE}/queues", view_of(QueueList))


def usage(project_id: str, from_at: datetime | None, to_at: datetime | None) -> Call[ProjectUsage]:
    """What a project held."""
    return Call("GET", f"{_project(project_id)}/usage", view_of(ProjectUsage), _span(from_at, to_at))


def advice(
    project_id: str, from_at: datetime | None, to_at: datetime | None, reserved_discount_ratio: float | None
) -> Call[ProjectAdvice]:
    """What could be saved."""
    params = {**_span(from_at, to_at), "reserved_discount_ratio": reserved_discount_ratio}
    return Call("GET", f"{_project(project_id)}/advice", view_of(ProjectAdvice), params)


def quotas(projects: list[str]) -> Call[QuotaList]:
    """What projects may hold."""
    return Call("GET", f"{BASE}/quotas", view_of(QuotaList), {"project_id": projects})


def pricing() -> Call[PriceList]:
    """What cards cost."""
    return Call("GET", f"{BASE}/pricing", view_of(PriceList))


def audit_page(projects: list[str], after: int) -> Call[AuditList]:
    """The audit log after a sequence."""
    params = {"project_id": projects, "after": after, "limit": PAGE_COUNT}
    return Call("GET", f"{BASE}/audit", view_of(AuditList), params)


def _project(project_id: str) -> str:
    return f"{BASE}/projects/{quote(project_id, safe='')}"


def _span(from_at: datetime | None, to_at: datetime | None) -> dict[str, Any]:
    return {"from": from_at and from_at.isoformat(), "to": to_at and to_at.isoformat()}
