"""What both clients of the manager say and hear, without sending anything: requests, answers, and what follows."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.spec import JobSpec, read_spec
from helpers.domain.jobs.states import FINAL, JobStatus
from helpers.domain.jobs.views import (
    Errors,
    EventList,
    JobList,
    JobSubmitted,
    JobView,
)
from helpers.sdk.pod_token import TOKEN_FILE

DEFAULT_URL = f"http://{names.MANAGER_COMPONENT}.gpu-system.svc:{names.MANAGER_PORT}"
ANSWER_TIMEOUT_SECONDS = 30.0
# A replica that is replaced, or a database that changes its leader, is back within these: 15 s of pauses in all.
TRIES_COUNT = 6
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
# Between two looks of who waits for a job: soon at first, then rarely.
FIRST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 15.0
_LOOK_GROWTH = 1.5
PAGE_COUNT = 200
BASE = "/api/v1/gpu"
_AGAIN = frozenset({502, 503, 504})

Answer = TypeVar("Answer")
View = TypeVar("View", bound=BaseModel)


class GPUJobError(Exception):
    """Root of what is raised here."""


class JobRefused(GPUJobError):
    """The manager says no. `problems`: each with path, value, rule and repair. `status_code` None: it was not sent."""

    def __init__(self, status_code: int | None, problems: Iterable[Problem]) -> None:
        self.status_code = status_code
        self.problems = tuple(problems)
        super().__init__("\n".join(_text(problem) for problem in self.problems))


class ManagerUnreachable(GPUJobError):
    """No manager answered, however often it was asked."""


class JobFailed(GPUJobError):
    """A job that was waited for did not complete. `job`: as it ended."""

    def __init__(self, job: JobView) -> None:
        self.job = job
        super().__init__(f"job {job.job_id} ({job.job_name}) is {job.status}: {job.reason or 'no reason is known'}")


class WaitedTooLong(GPUJobError):
    """A job is not over after the time that was given. `job`: as it was last seen; it goes on."""

    def __init__(self, job: JobView, seconds: float) -> None:
        self.job = job
        super().__init__(f"job {job.job_id} is {job.status} after {seconds:g} s; it goes on")


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, and how its answer is read. Every call may be sent twice."""

    method: str
    path: str
    read: Callable[[httpx.Response], Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Wire:
    """Where the manager is, who asks, and how often it is asked before that is an error."""

    def __init__(self, api_url: str | None, token: str | None, tries_count: int = TRIES_COUNT) -> None:
        self._most_tries_count = tries_count
        self.base_url = (api_url or os.environ.get(names.ENV_MANAGER_URL) or DEFAULT_URL).rstrip("/")
        self._token = token

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """The arguments of httpx's `request`. The token is read anew: a pod's is replaced every hour.

        Raises:
            GPUJobError: no token was given and there is none.
        """
        token = self._token or os.environ.get(names.ENV_MANAGER_TOKEN)
        if not token:
            try:
                token = TOKEN_FILE.read_text(encoding="utf-8").strip()
            except OSError as error:
                where = f"${names.ENV_MANAGER_TOKEN} is not set and {TOKEN_FILE} cannot be read: {error.strerror}"
                raise GPUJobError(f"no token was given, {where}") from error
        params = {name: value for name, value in call.params.items() if value not in (None, "", [])}
        return {
            "method": call.method,
            "url": self.base_url + call.path,
            "params": params,
            "json": call.body,
            "headers": {"Authorization": f"Bearer {token}", **call.headers},
        }

    def pause_seconds(self, tries_count: int, answer: httpx.Response | Exception) -> float | None:
        """How long until the same is asked again after `tries_count` tries; None: the answer stands.

        Raises:
            ManagerUnreachable: it was asked often enough.
        """
        if isinstance(answer, httpx.Response) and answer.status_code not in _AGAIN:
            return None
        if tries_count >= self._most_tries_count:
            why = f"status {answer.status_code}" if isinstance(answer, httpx.Response) else _named(answer)
            raise ManagerUnreachable(f"{self.base_url} did not answer {tries_count} times, last: {why}")
        return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * float(2 ** (tries_count - 1)))


def read(call: Call[Answer], answer: httpx.Response) -> Answer:
    """What the answer says.

    Raises:
        JobRefused: it is a refusal.
        GPUJobError: it is no answer of a manager.
    """
    if answer.is_success:
        return call.read(answer)
    try:
        found = Errors.model_validate_json(answer.content, extra="ignore").errors
    except ValidationError as error:
        raise GPUJobError(f"{answer.url} answered {answer.status_code}, which is no manager's refusal") from error
    raise JobRefused(answer.status_code, (Problem(one.place, one.value, one.rule, one.repair) for one in found))


def submit(job: JobSpec | Mapping[str, Any] | None, fields: Mapping[str, Any], key: str | None) -> Call[JobSubmitted]:
    """A submit. Its key makes a second one harmless: a client that hears nothing sends the same again."""
    body = document(job, fields)
    return Call("POST", f"{BASE}/jobs", view_of(JobSubmitted), {}, body, {"Idempotency-Key": key or uuid.uuid4().hex})


def document(job: JobSpec | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request's body; `fields` go before those of `job`."""
    given = job.model_dump(mode="json", exclude_none=True) if isinstance(job, JobSpec) else dict(job or {})
    return {**given, **fields}


def checked(body: Mapping[str, Any]) -> JobSpec:
    """The job that the body asks for.

    Raises:
        JobRefused: it asks for something that no job can have. A manager may know more rules.
    """
    try:
        return read_spec(body)
    except RequestInvalid as error:
        raise JobRefused(None, error.problems) from error


def get_job(job_id: str) -> Call[JobView]:
    """A job."""
    return Call("GET", _job(job_id), view_of(JobView))


def cancel_job(job_id: str) -> Call[JobView]:
    """Ends it."""
    return Call("DELETE", _job(job_id), view_of(JobView))


def job_logs(job_id: str, tail_lines: int, worker: int) -> Call[str]:
    """The end of a worker's output."""
    return Call("GET", f"{_job(job_id)}/logs", lambda answer: answer.text, {"tail_lines": tail_lines, "worker": worker})


def job_page(wanted: Mapping[str, Any], cursor: str, page_count: int) -> Call[JobList]:
    """A page of jobs."""
    return Call("GET", f"{BASE}/jobs", view_of(JobList), {**wanted, "cursor": cursor, "limit": page_count})


def event_page(job_id: str | None, projects: list[str], after: int) -> Call[EventList]:
    """History after a sequence."""
    path = f"{_job(job_id)}/events" if job_id is not None else f"{BASE}/events"
    params: dict[str, Any] = {"after": after, "limit": PAGE_COUNT}
    return Call("GET", path, view_of(EventList), params if job_id is not None else {**params, "project_id": projects})


def job_filter(
    project_id: str | Iterable[str] | None,
    status: str | Iterable[str] | None,
    priority: str | None,
    job_name: str | None,
    submitted_by: str | None,
) -> dict[str, Any]:
    """The parameters of a list."""
    return {
        "project_id": texts(project_id),
        "status": [JobStatus(one).value for one in texts(status)],
        "priority": priority,
        "job_name": job_name,
        "submitted_by": submitted_by,
    }


def texts(one_or_many: str | Iterable[str] | None) -> list[str]:
    """As a list."""
    return [one_or_many] if isinstance(one_or_many, str) else list(one_or_many or ())


class Waiting:
    """How long somebody waits for a job."""

    def __init__(self, timeout_seconds: float | None, *, check: bool) -> None:
        self._timeout_seconds = timeout_seconds
        self._check = check
        self._look_seconds = FIRST_LOOK_SECONDS

    def over(self, job: JobView, waited_seconds: float) -> float | None:
        """Seconds until the next look; None: it is over.

        Raises:
            JobFailed: it did not complete, and that was to be checked.
            WaitedTooLong: the time is over, and the job is not.
        """
        if job.status in FINAL:
            if self._check and job.status is not JobStatus.COMPLETED:
                raise JobFailed(job)
            return None
        left_seconds = float("inf") if self._timeout_seconds is None else self._timeout_seconds - waited_seconds
        if left_seconds <= 0:
            raise WaitedTooLong(job, waited_seconds)
        pause_seconds = min(self._look_seconds, left_seconds)
        self._look_seconds = min(LONGEST_LOOK_SECONDS, self._look_seconds * _LOOK_GROWTH)
        return pause_seconds


def _job(job_id: str) -> str:
    return f"{BASE}/jobs/{quote(job_id, safe='')}"


def view_of(model: type[View]) -> Callable[[httpx.Response], View]:
    """How an answer is read that is a `model`."""

    def read_view(answer: httpx.Response) -> View:
        try:
            # A newer manager may tell more than this client knows.
            return model.model_validate_json(answer.content, extra="ignore")
        except ValidationError as error:
            raise GPUJobError(f"{answer.url} answered something else than a {model.__name__}: {error}") from error

    return read_view


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _text(problem: Problem) -> str:
    shown = f"{problem.path} = {problem.value}" if problem.value else problem.path
    return f"{shown}: {problem.rule}; {problem.repair}"
