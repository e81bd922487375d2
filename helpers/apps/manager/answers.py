"""Answers: views as JSON, and every refusal in one form."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from helpers.apps.manager.gate import Refused
from helpers.apps.manager.views import problem_view
from helpers.domain.errors import CheckFailed, DependencyError, NotFound, Problem
from helpers.domain.jobs.problems import RequestInvalid, problems_of
from helpers.domain.jobs.spec import known_fields
from helpers.domain.jobs.views import Errors
from helpers.ports.log import Log
from helpers.services.manager_jobs import KeyConflict

RETRY_AFTER_SECONDS = 1
_BODY = "body"

# What every operation may answer besides its own.
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Errors, "description": text}
    for code, text in (
        (400, "The body is no JSON."),
        (401, "The token is nobody's."),
        (403, "The caller may not do that in this project."),
        (404, "There is no such thing, or the caller may not know of it."),
        (409, "The job is over, or the idempotency key is another request's."),
        (413, "The body is too long."),
        (422, "The request cannot be taken as it is; every problem is named."),
        (503, "The database or the cluster does not answer; try again."),
    )
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation; 401, 422 and 503 are everybody's."""
    return {code: REFUSALS[code] for code in sorted({401, 422, 503, *codes})}


def shown(view: BaseModel, code: int = 200, **headers: str) -> Response:
    """A view as JSON. It is a model of ours, so it is not checked a second time."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(view.model_dump_json(), code, names, "application/json")


def refuse(code: int, *problems: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """A refusal."""
    return JSONResponse(Errors(errors=[problem_view(one) for one in problems]).model_dump(), code, headers)


def no_such_job(job_id: str) -> Refused:
    """The same whether it is not there or belongs to a project that is none of the caller's business."""
    rule = "the id of a job in a project that you may read"
    return Refused(HTTPStatus.NOT_FOUND, Problem("job_id", job_id[:100], rule, "list your jobs to find it"))


def add_refusals(api: FastAPI, log: Log) -> None:
    """Turns every error into a refusal."""

    @api.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return refuse(error.code, *error.problems, headers=error.headers)

    @api.exception_handler(RequestInvalid)
    def invalid(_: Request, error: RequestInvalid) -> JSONResponse:
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, *error.problems)

    @api.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [dict(one, loc=_place(one["loc"])) for one in error.errors()]
        if any(one["type"] == "json_invalid" for one in errors):
            problem = Problem(_BODY, "", "a JSON document", "send JSON, with Content-Type: application/json")
            return refuse(HTTPStatus.BAD_REQUEST, problem)
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, *problems_of(errors, known=known_fields()))

    @api.exception_handler(KeyConflict)
    def taken(_: Request, error: KeyConflict) -> JSONResponse:
        return refuse(HTTPStatus.CONFLICT, error.problem)

    @api.exception_handler(NotFound)
    def absent(_: Request, error: NotFound) -> JSONResponse:
        return refuse(HTTPStatus.NOT_FOUND, Problem("path", "", str(error), "look at the job's state and history"))

    @api.exception_handler(CheckFailed)
    def over(_: Request, error: CheckFailed) -> JSONResponse:
        return refuse(HTTPStatus.CONFLICT, Problem("status", "", str(error), "look at the job's state and history"))

    @api.exception_handler(DependencyError)
    def silent(request: Request, error: DependencyError) -> JSONResponse:
        log.warning("request_failed", path=request.url.path, reason=str(error))
        text = "what the answer rests on (the database or the cluster) does not answer"
        repair = "try again; with the same Idempotency-Key a job is submitted once"
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, Problem("service", "", text, repair), headers=headers)

    @api.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        problem = Problem("path", request.url.path[:100], str(error.detail), "see /openapi.json for what there is")
        return refuse(error.status_code, problem, headers=dict(error.headers or {}))


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Without the part that says where in the request: `body`, `query`, `header`."""
    return location[1:] if location and location[0] in (_BODY, "query", "path", "header") else location
