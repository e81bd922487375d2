"""What users do with jobs: submit, look, cancel. Every replica does it; the cluster follows by the outbox."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from helpers.domain.errors import CheckFailed, NotFound, Problem
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.change import (
    AuditEntry,
    IdempotencyKey,
    OutboxAction,
    OutboxRow,
    Submission,
    step,
)
from helpers.domain.jobs.gpus import card_sizes
from helpers.domain.jobs.job import JOB_ID_PREFIX, Job, JobEvent
from helpers.domain.jobs.observation import Capability
from helpers.domain.jobs.places import place_problems, sized
from helpers.domain.jobs.preemption import first_capacity
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import JobSpec, Priority
from helpers.domain.jobs.states import JobStatus
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore
from helpers.services.manager_money import Purse

_ID_BYTES = 7  # 56 bits: ten base32 characters hold 50 of them
_ID_LENGTH = 10
_MOST_TRIES_COUNT = 5


class KeyConflict(CheckFailed):
    """An idempotency key came with another request than before."""

    def __init__(self, key: IdempotencyKey, job: Job) -> None:
        self.problem = Problem(
            "Idempotency-Key",
            key.key,
            f"a key is one request's for ever, and {job.job_id} of project {job.project_id}, "
            f"submitted at {job.created_at.isoformat()}, has it with another body",
            "send the body of that request again, or choose another key",
        )
        super().__init__(self.problem.text())


@dataclass(frozen=True)
class Submitted:
    """What came of a submit. `created` False: it was submitted before, with the same key."""

    job: Job
    created: bool


class JobDesk:
    """Takes submits and cancellations."""

    def __init__(
        self,
        store: JobStore,
        engine: JobEngine | None,
        settings: ManagerSettings,
        purse: Purse,
        clock: Clock,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._settings = settings
        self._purse = purse
        self._clock = clock
        self._new_id = new_id or new_job_id
        self._sizes = card_sizes(settings.prices)

    def submit(self, spec: JobSpec, user: str, key: str = "") -> Submitted:
        """Keeps the job; when this returns it is committed.

        Raises:
            RequestInvalid: it can never run here.
            KeyConflict: the key came with another request before.
            DependencyError: the database does not answer; nothing was kept, or with a key it may be asked for again.
        """
        asked_hash = request_hash(spec)
        project = self._require_project(spec)
        spec = sized(spec, self._settings.places, self._sizes)
        problems = self._problems(spec, project)
        if problems:
            raise RequestInvalid(problems)
        now_at, job_id = self._clock.now_at(), self._new_id()
        job = Job(
            job_id=job_id,
            spec=spec,
            status=JobStatus.PENDING,
            created_at=now_at,
            queued_at=now_at,
            submitted_by=user,
            capacity=first_capacity(spec, offers_spot=self._settings.offers_spot),
        )
        after = {"job_name": spec.job_name, "status": job.status.value, "gpus": spec.demand.pool.name}
        wanted = IdempotencyKey(spec.project_id, key, asked_hash) if key else None
        kept = self._store.submit(
            Submission(
                job,
                JobEvent(job_id, now_at, "submitted", "it was committed", user),
                AuditEntry(now_at, user, "submit", spec.project_id, job_id, None, after),
                OutboxRow(job_id, OutboxAction.SUBMIT, now_at),
                wanted,
            )
        )
        if not kept.created and wanted is not None and kept.key != wanted:
            raise KeyConflict(wanted, kept.job)
        return Submitted(kept.job, kept.created)

    def cancel(self, job_id: str, user: str) -> Job:
        """Ends the job for its user at once; its objects follow. Cancelled already: nothing happens.

        Raises:
            NotFound: there is no such job.
            ForbiddenTransition: it is over.
        """
        for _ in range(_MOST_TRIES_COUNT):
            job = self._store.job(job_id)
            if job is None:
                raise NotFound(f"there is no job {job_id}")
            if job.status is JobStatus.CANCELLED:
                return job
            change = step(
                job,
                JobStatus.CANCELLED,
                self._clock.now_at(),
                f"{user} cancelled it",
                actor=user,
                outbox=OutboxAction.REMOVE,
                audit_action="cancel",
            )
            change = self._purse.billed(change)
            if self._store.apply([change]):
                return change.new
        raise CheckFailed(f"job {job_id} changes faster than it can be cancelled; try again")

    def _require_project(self, spec: JobSpec) -> Project:
        project = self._settings.project(spec.project_id)
        if project is None:
            known = ", ".join(sorted(one.name for one in self._settings.projects))
            rule, repair = "a project that the estate declares", f"use one of: {known}, or declare it"
            raise RequestInvalid([Problem("project_id", spec.project_id, rule, repair)])
        return project

    def _problems(self, spec: JobSpec, project: Project) -> list[Problem]:
        problems = [*_lacks(spec, self._engine), *place_problems(spec, self._settings.places)]
        gpu_count = spec.demand.gpu_count()
        if project.gpu_quota_count is not None and gpu_count > project.gpu_quota_count:
            rule = f"project {project.name} may hold {project.gpu_quota_count} GPUs, and this job wants {gpu_count:g}"
            place = "workers" if spec.workers > 1 else "gpu_requirements.gpu_count"
            problems.append(Problem(place, f"{gpu_count:g}", rule, "ask for fewer, or have the quota raised"))
        return problems


def _lacks(spec: JobSpec, engine: JobEngine | None) -> list[Problem]:
    """What the job wants and the engine cannot do."""
    if engine is None:
        return []
    have = engine.capabilities()
    wants = [
        (Capability.GANG, spec.workers > 1, "workers", str(spec.workers), "set workers: 1"),
        (Capability.PRIORITY, spec.priority is not Priority.MEDIUM, "priority", spec.priority.value, "leave it out"),
    ]
    return [
        Problem(
            place,
            value,
            f"the engine {engine.name} has no {capability.value}; it has: {', '.join(sorted(have)) or 'nothing'}",
            f"{repair}, or use an engine that has it",
        )
        for capability, wanted, place, value, repair in wants
        if wanted and capability not in have
    ]


def new_job_id() -> str:
    """A name for the job and its objects that nobody can guess."""
    return JOB_ID_PREFIX + base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()[:_ID_LENGTH]


def request_hash(spec: JobSpec) -> str:
    """The same for two requests that mean the same, however they are written."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
