"""Submit, watch and cancel GPU jobs.

    from helpers.sdk.gpu import GPUJobClient

    with GPUJobClient(api_url="http://gpumem-manager.gpu-system.svc:8000") as gpu:
        job = gpu.submit(
            job_name="finetune_llama_7b",
            project_id="ml-research",
            gpu_requirements={"gpu_type": "A100", "gpu_count": 4, "gpu_memory_gb": 80},
            container={"image": "nvcr.io/nvidia/pytorch:24.01-py3", "command": ["python", "train.py"]},
        )
        print(gpu.wait(job.job_id, check=True).cost_usd)

`AsyncGPUJobClient` is the same for asyncio. A manager that is being replaced is asked again; each submit
has a key, so a job that is submitted again because no answer came is one job.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
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
from helpers.sdk.gpu_async import AsyncGPUJobClient
from helpers.sdk.gpu_wire import (
    Answer,
    Call,
    GPUJobError,
    JobFailed,
    JobRefused,
    ManagerUnreachable,
    WaitedTooLong,
    Waiting,
    Wire,
)
from helpers.sdk.kubeflow import KfpTask, job_of_task
from helpers.sdk.ray import RayCluster

__all__ = [
    "AsyncGPUJobClient",
    "GPUJobClient",
    "GPUJobError",
    "JobFailed",
    "JobRefused",
    "ManagerUnreachable",
    "WaitedTooLong",
]


class GPUJobClient:
    """A manager's client, for threads.

    Args:
        api_url: The manager; absent: $GPUMEM_MANAGER_URL, else its Service in the cluster.
        token: Who asks; absent: $GPUMEM_MANAGER_TOKEN, else the pod's own token, read anew each time.
        client: Another HTTP client, such as one that trusts a private authority.
        tries_count: How often a manager that does not answer is asked, with growing pauses.
    """

    def __init__(
        self,
        api_url: str | None = None,
        *,
        token: str | None = None,
        client: httpx.Client | None = None,
        tries_count: int = wire.TRIES_COUNT,
    ) -> None:
        self._wire = Wire(api_url, token, tries_count)
        self._owned = client is None
        self._client = client or httpx.Client(timeout=wire.ANSWER_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections; a client that was given is its owner's."""
        if self._owned:
            self._client.close()

    def submit(
        self, job: JobSpec | Mapping[str, Any] | None = None, *, idempotency_key: str | None = None, **fields: Any
    ) -> JobSubmitted:
        """Submits a job: a `JobSpec`, the API's JSON, or its fields by name. When this returns, it is committed.

        Args:
            job: The job, or what several jobs share; `fields` go before.
            idempotency_key: The same key is the same job for ever; absent: one of its own, for this call's retries.
            fields: As the API's reference has them: job_name, project_id, gpu_requirements, container, ...

        Raises:
            JobRefused: it cannot be taken; carries every problem.
            ManagerUnreachable: nobody answered; with a key of your own you may submit it again.
        """
        return self._answer(wire.submit(job, fields, idempotency_key))

    def get(self, job_id: str) -> JobView:
        """A job."""
        return self._answer(wire.get_job(job_id))

    def list(
        self,
        *,
        project_id: str | Iterable[str] | None = None,
        status: str | Iterable[str] | None = None,
        priority: str | None = None,
        job_name: str | None = None,
        submitted_by: str | None = None,
        page_count: int = wire.PAGE_COUNT,
    ) -> Iterator[JobView]:
        """All jobs that match, newest first; pages are fetched as they are needed."""
        wanted = wire.job_filter(project_id, status, priority, job_name, submitted_by)
        cursor = ""
        while True:
            page = self._answer(wire.job_page(wanted, cursor, page_count))
            yield from page.jobs
            cursor = page.next_cursor
            if not cursor:
                return

    def cancel(self, job_id: str) -> JobView:
        """Ends a job; cancelled already: nothing happens. JobRefused where it is over."""
        return self._answer(wire.cancel_job(job_id))

    def logs(self, job_id: str, *, tail_lines: int = 500, worker: int = 0) -> str:
        """The end of a worker's output."""
        return self._answer(wire.job_logs(job_id, tail_lines, worker))

    def events(
        self, job_id: str | None = None, *, project_id: str | Iterable[str] | None = None, after: int = 0
    ) -> Iterator[EventView]:
        """The history of a job (else of all your jobs) after a sequence, oldest first, until now."""
        projects = wire.texts(project_id)
        while page := self._answer(wire.event_page(job_id, projects, after)).events:
            yield from page
            after = page[-1].sequence

    def audit(self, *, project_id: str | Iterable[str] | None = None, after: int = 0) -> Iterator[AuditView]:
        """Who changed what in a project (else in all of yours) after a sequence, oldest first, until now."""
        projects = wire.texts(project_id)
        while page := self._answer(reports.audit_page(projects, after)).entries:
            yield from page
            after = page[-1].sequence

    def wait(self, job_id: str, *, timeout_seconds: float | None = None, check: bool = False) -> JobView:
        """The job when it is over.

        Raises:
            WaitedTooLong: it is not over after `timeout_seconds`; it goes on.
            JobFailed: with `check`: it did not complete.
        """
        began_seconds, waiting = time.monotonic(), Waiting(timeout_seconds, check=check)
        while True:
            job = self.get(job_id)
            pause_seconds = waiting.over(job, time.monotonic() - began_seconds)
            if pause_seconds is None:
                return job
            time.sleep(pause_seconds)

    def queues(self) -> QueueList:
        """Pools of GPUs, and how many wait for them."""
        return self._answer(reports.queues())

    def usage(self, project_id: str, *, from_at: datetime | None = None, to_at: datetime | None = None) -> ProjectUsage:
        """What a project held and what that cost; absent: this month."""
        return self._answer(reports.usage(project_id, from_at, to_at))

    def advice(
        self,
        project_id: str,
        *,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        reserved_discount_ratio: float | None = None,
    ) -> ProjectAdvice:
        """What a project could save, from what it held; absent: the last four weeks. Nothing acts on it."""
        return self._answer(reports.advice(project_id, from_at, to_at, reserved_discount_ratio))

    def quotas(self, *, project_id: str | Iterable[str] | None = None) -> Iterator[QuotaView]:
        """What projects may hold and spend."""
        yield from self._answer(reports.quotas(wire.texts(project_id))).quotas

    def pricing(self) -> PriceList:
        """What cards cost."""
        return self._answer(reports.pricing())

    def submit_kfp_task(self, task: KfpTask, *, project_id: str, **fields: Any) -> JobSubmitted:
        """Submits what a Kubeflow Pipelines task would run (`kubeflow.job_of_task`)."""
        return self.submit(job_of_task(task, project_id=project_id), **fields)

    def create_ray_cluster(self, cluster_name: str, **shape: Any) -> RayCluster:
        """The documents of a Ray cluster (`ray.RayCluster`); whoever applies them to the cluster makes it."""
        return RayCluster(cluster_name, **shape)

    def _answer(self, call: Call[Answer]) -> Answer:
        tries_count = 0
        while True:
            tries_count += 1
            request, answer = self._wire.request(call), None
            try:
                answer = self._client.request(**request)
                pause_seconds = self._wire.pause_seconds(tries_count, answer)
            except httpx.TransportError as error:
                pause_seconds = self._wire.pause_seconds(tries_count, error)
            if pause_seconds is None and answer is not None:
                return wire.read(call, answer)
            time.sleep(pause_seconds or 0.0)
