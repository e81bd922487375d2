"""`GPUJobClient` for asyncio: the same operations, the same errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from helpers.domain.jobs.advice_views import ProjectAdvice
from helpers.domain.jobs.spec import JobSpec
from helpers.domain.jobs.views import (
    AuditView,
    EventView,
    JobSubmitted,
    JobView,
    PriceList,
    ProjectUsage,
    QueueList,
    QuotaView,
)
from helpers.sdk import gpu_reports as reports
from helpers.sdk import gpu_wire as wire
from helpers.sdk.gpu_wire import Answer, Call, Waiting, Wire


class AsyncGPUJobClient:
    """The same as `GPUJobClient`, for asyncio."""

    def __init__(
        self,
        api_url: str | None = None,
        *,
        token: str | None = None,
        client: httpx.AsyncClient | None = None,
        tries_count: int = wire.TRIES_COUNT,
    ) -> None:
        self._wire = Wire(api_url, token, tries_count)
        self._owned = client is None
        self._client = client or httpx.AsyncClient(timeout=wire.ANSWER_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections; a client that was given is its owner's."""
        if self._owned:
            await self._client.aclose()

    async def submit(
        self, job: JobSpec | Mapping[str, Any] | None = None, *, idempotency_key: str | None = None, **fields: Any
    ) -> JobSubmitted:
        """Submits a job; when this returns, it is committed."""
        return await self._answer(wire.submit(job, fields, idempotency_key))

    async def get(self, job_id: str) -> JobView:
        """A job."""
        return await self._answer(wire.get_job(job_id))

    async def list(
        self,
        *,
        project_id: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        priority: str | None = None,
        job_name: str | None = None,
        submitted_by: str | None = None,
        page_count: int = wire.PAGE_COUNT,
    ) -> AsyncIterator[JobView]:
        """All jobs that match, newest first."""
        wanted = wire.job_filter(project_id, status, priority, job_name, submitted_by)
        cursor = ""
        while True:
            page = await self._answer(wire.job_page(wanted, cursor, page_count))
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if not cursor:
                return

    async def cancel(self, job_id: str) -> JobView:
        """Ends a job."""
        return await self._answer(wire.cancel_job(job_id))

    async def logs(self, job_id: str, *, tail_lines: int = 500, worker: int = 0) -> str:
        """The end of a worker's output."""
        return await self._answer(wire.job_logs(job_id, tail_lines, worker))

    async def events(
        self, job_id: str | None = None, *, project_id: str | Iterable[str] | None = None, after: int = 0
    ) -> AsyncIterator[EventView]:
        """History after a sequence, oldest first, until now."""
        projects = wire.texts(project_id)
        while page := (await self._answer(wire.event_page(job_id, projects, after))).events:
            for event in page:
                yield event
            after = page[-1].sequence

    async def audit(self, *, project_id: str | Iterable[str] | None = None, after: int = 0) -> AsyncIterator[AuditView]:
        """Who changed what after a sequence, oldest first, until now."""
        projects = wire.texts(project_id)
        while page := (await self._answer(reports.audit_page(projects, after))).entries:
            for entry in page:
                yield entry
            after = page[-1].sequence

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None, check: bool = False) -> JobView:
        """The job when it is over; raises as `GPUJobClient.wait`."""
        began_seconds, waiting = time.monotonic(), Waiting(timeout_seconds, check=check)
        while True:
            job = await self.get(job_id)
            pause_seconds = waiting.over(job, time.monotonic() - began_seconds)
            if pause_seconds is None:
                return job
            await asyncio.sleep(pause_seconds)

    async def queues(self) -> QueueList:
        """Pools of GPUs, and how many wait for them."""
        return await self._answer(reports.queues())

    async def usage(
        self, project_id: str, *, from_at: datetime | None = None, to_at: datetime | None = None
    ) -> ProjectUsage:
        """What a project held and what that cost; absent: this month."""
        return await self._answer(reports.usage(project_id, from_at, to_at))

    async def advice(
        self,
        project_id: str,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        reserved_discount_ratio: float | None = None,
    ) -> ProjectAdvice:
        """What a project could save, from what it held; absent: the last four weeks. Nothing acts on it."""
        return await self._answer(reports.advice(project_id, from_at, to_at, reserved_discount_ratio))

    async def quotas(self, *, project_id: str | Iterable[str] | None = None) -> tuple[QuotaView, ...]:
        """What projects may hold and spend."""
        return tuple((await self._answer(reports.quotas(wire.texts(project_id)))).quotas)

    async def pricing(self) -> PriceList:
        """What cards cost."""
        return await self._answer(reports.pricing())

    async def _answer(self, call: Call[Answer]) -> Answer:
        tries_count = 0
        while True:
            tries_count += 1
            request, answer = self._wire.request(call), None
            try:
                answer = await self._client.request(**request)
                pause_seconds = self._wire.pause_seconds(tries_count, answer)
            except httpx.TransportError as error:
                pause_seconds = self._wire.pause_seconds(tries_count, error)
            if pause_seconds is None and answer is not None:
                return wire.read(call, answer)
            await asyncio.sleep(pause_seconds or 0.0)
