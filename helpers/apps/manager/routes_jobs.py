"""Jobs: submit, list, look, cancel, logs, history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import PlainTextResponse

from helpers.apps.manager.answers import no_such_job, refusals, shown
from helpers.apps.manager.gate import Refused
from helpers.apps.manager.views import Spent, event_view, job_view, submitted_view
from helpers.apps.manager.world import ApiWorld
from helpers.domain.cost.estimate import CostEstimate
from helpers.domain.errors import Problem
from helpers.domain.jobs.change import JobFilter
from helpers.domain.jobs.estimates import Estimate
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.spec import JobSpec, Priority
from helpers.domain.jobs.states import WAITING, JobStatus
from helpers.domain.jobs.views import EventList, JobList, JobSubmitted, JobView
from helpers.ports.leases import Caller

MOST_LISTED_COUNT = 500
_FIRST_YEAR, _LAST_YEAR = 2000, 2200
# No control characters: a database cannot hold some of them, and nobody's name has them.
PLAIN = r"^[^\x00-\x1f]*$"
JobId = Annotated[str, Path(max_length=63, pattern=PLAIN, description="As the submit gave it.")]
ProjectIds = Annotated[list[str] | None, Query(max_length=100, description="Absent: all that you may list.")]
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED_COUNT)]
After = Annotated[int, Query(ge=0, le=2**62, description="A sequence; only what comes after it.")]


def instant(place: str, value: datetime | None) -> datetime | None:
    """The instant in UTC.

    Raises:
        RequestInvalid: it has no zone, or lies where no job can.
    """
    if value is None:
        return None
    if value.tzinfo is None or not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        rule = f"an instant with its zone, of the years {_FIRST_YEAR} to {_LAST_YEAR}"
        raise RequestInvalid([Problem(place, value.isoformat(), rule, "write it like 2026-02-08T14:00:00Z")])
    return value.astimezone(UTC)


def past_span(
    world: ApiWorld,
    from_at: datetime | None,
    to_at: datetime | None,
    longest_days: int,
    begin_of: Callable[[datetime], datetime],
) -> tuple[datetime, datetime]:
    """A span that ends now at the latest. `begin_of`: where it begins when nobody says, by its end.

    Raises:
        RequestInvalid: it ends before it begins, or is too long.
    """
    now_at = world.clock.now_at()
    end_at = min(instant("to", to_at) or now_at, now_at)
    begin_at = instant("from", from_at) or begin_of(end_at)
    if not timedelta(0) <= end_at - begin_at <= timedelta(days=longest_days):
        rule = f"a span in the past that ends after it begins, of {longest_days} days at most"
        raise RequestInvalid([Problem("from", begin_at.isoformat(), rule, "choose an instant before `to`")])
    return begin_at, end_at


def job_routes(world: ApiWorld) -> APIRouter:
    """The operations on jobs."""
    routes = APIRouter(prefix="/api/v1/gpu/jobs", tags=["jobs"])
    from_token = Depends(world.caller)

    @routes.post("", status_code=201, responses={201: {"model": JobSubmitted}, **refusals(400, 403, 409, 413)})
    def submit(
        spec: JobSpec,
        idempotency_key: Annotated[
            str,
            Header(max_length=255, pattern=r"^[!-~]*$", description="Sent again with the same body: the same job."),
        ] = "",
        caller: Caller = from_token,
    ) -> Response:
        """Submit a job. When this answers 201, the job is committed; the cluster follows."""
        world.gate.let(caller, "create", spec.project_id)
        done = world.desk.submit(spec, caller.user, idempotency_key)
        view = submitted_view(done.job, _start(world, done.job, world.board.of_submitted), _cost(world, done.job))
        again = {} if done.created else {"Idempotent_Replayed": "true"}
        return shown(view, HTTPStatus.CREATED, Location=f"{routes.prefix}/{done.job.job_id}", **again)

    @routes.get("", responses={200: {"model": JobList}, **refusals(403)})
    def listed(
        project_id: ProjectIds = None,
        status: Annotated[list[JobStatus] | None, Query(max_length=8)] = None,
        priority: Annotated[Priority | None, Query()] = None,
        job_name: Annotated[str | None, Query(max_length=63, pattern=PLAIN)] = None,
        submitted_by: Annotated[str | None, Query(max_length=512, pattern=PLAIN)] = None,
        created_from: Annotated[datetime | None, Query()] = None,
        created_to: Annotated[datetime | None, Query()] = None,
        cursor: Annotated[str, Query(max_length=512, description="From the page before.")] = "",
        limit: Limit = 50,
        caller: Caller = from_token,
    ) -> Response:
        """List jobs, newest first."""
        wanted = JobFilter(
            projects=world.gate.projects(caller, project_id),
            statuses=frozenset(status or ()),
            priority=priority.value if priority else None,
            job_name=job_name,
            submitted_by=submitted_by,
            created_from_at=instant("created_from", created_from),
            created_to_at=instant("created_to", created_to),
        )
        page = world.store.page(wanted, cursor, limit)
        return shown(JobList(jobs=[_view(world, job) for job in page.jobs], next_cursor=page.next_cursor))

    _one_job(routes, world)
    return routes


def _one_job(routes: APIRouter, world: ApiWorld) -> None:
    from_token = Depends(world.caller)

    @routes.get("/{job_id}", responses={200: {"model": JobView}, **refusals(404)})
    def one(job_id: JobId, caller: Caller = from_token) -> Response:
        """A job."""
        return shown(_view(world, _found(world, caller, "get", job_id), world.board.of_asked))

    @routes.delete("/{job_id}", responses={200: {"model": JobView}, **refusals(403, 404, 409)})
    def cancel(job_id: JobId, caller: Caller = from_token) -> Response:
        """Cancel a job. Cancelled already: nothing happens; completed or failed: 409."""
        _found(world, caller, "delete", job_id)
        return shown(_view(world, world.desk.cancel(job_id, caller.user)))

    @routes.get(
        "/{job_id}/logs",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(404)},
    )
    def logs(
        job_id: JobId,
        tail_lines: Annotated[int, Query(ge=1, le=10_000)] = 500,
        worker: Annotated[int, Query(ge=0, le=255)] = 0,
        caller: Caller = from_token,
    ) -> Response:
        """The end of a worker's output."""
        job = _found(world, caller, "get", job_id)
        if worker >= job.spec.workers:
            rule = f"the job has {job.spec.workers} workers, counted from 0"
            raise RequestInvalid([Problem("worker", str(worker), rule, f"use 0 to {job.spec.workers - 1}")])
        if world.engine is None:
            problem = Problem("job_id", job_id, "this manager runs without an engine, so it has no logs", "use another")
            raise Refused(HTTPStatus.NOT_FOUND, problem)
        return PlainTextResponse(world.engine.logs(job, tail_lines=tail_lines, worker=worker))

    @routes.get("/{job_id}/events", responses={200: {"model": EventList}, **refusals(404)})
    def events(job_id: JobId, after: After = 0, limit: Limit = 100, caller: Caller = from_token) -> Response:
        """A job's history, oldest first."""
        job = _found(world, caller, "get", job_id)
        entries = world.store.events([job.project_id], job_id=job_id, after_sequence=after, limit=limit)
        return shown(EventList(events=[event_view(entry) for entry in entries]))


def _found(world: ApiWorld, caller: Caller, verb: str, job_id: str) -> Job:
    """The job, where the caller may know of it and `verb` it."""
    job = world.store.job(job_id)
    if job is None or not world.gate.may(caller, "get", job.project_id):
        raise no_such_job(job_id)
    if verb != "get":
        world.gate.let(caller, verb, job.project_id)
    return job


def _start(world: ApiWorld, job: Job, of_newer: Callable[[Job], Estimate] | None = None) -> Estimate | None:
    """`of_newer`: how a job is placed that is newer than the last look; of a list's nobody asks the database."""
    if job.status not in WAITING:
        return None
    known = world.board.of(job.job_id)
    if known is not None:
        return known
    return of_newer(job) if of_newer is not None else world.board.of_new(job.spec, world.clock.now_at())


def _cost(world: ApiWorld, job: Job) -> CostEstimate:
    spec = job.spec
    durations = world.board.durations.measured(spec.project_id, spec.job_name, spec.demand.pool)
    most_seconds = spec.most_seconds(world.settings.max_duration_hours)
    return world.purse.estimated(spec, durations, most_seconds, job.created_at)


def _view(world: ApiWorld, job: Job, of_newer: Callable[[Job], Estimate] | None = None) -> JobView:
    now_at = world.clock.now_at()
    held_seconds = world.purse.gpu_count(job.spec.demand) * job.held_until_seconds(now_at)
    spent = Spent(held_seconds, world.purse.until(job, now_at).known_usd)
    return job_view(job, _start(world, job, of_newer), _cost(world, job), spent)
