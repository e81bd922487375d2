"""The leases over HTTP. Who asks is told by the token, what they may by the rights in the tenant's namespace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from helpers.domain.errors import DependencyError, Problem
from helpers.domain.leases.book import Lease
from helpers.domain.leases.requests import LeaseRefused, LeaseRequest, Renewal
from helpers.domain.leases.settings import LeaseSettings
from helpers.ports.leases import Caller, Callers
from helpers.ports.log import Log
from helpers.services.leases import LeaseKeeper

RETRY_AFTER_SECONDS = 1
_ENDED = {HTTPStatus.CREATED: HTTPStatus.CONFLICT, HTTPStatus.OK: HTTPStatus.GONE}


class _Stop(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, code: HTTPStatus, error: str, **headers: str) -> None:
        super().__init__(error)
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Gatekeeper:
    """Lets callers through, tenant by tenant."""

    def __init__(self, callers: Callers, settings: LeaseSettings) -> None:
        self._callers = callers
        self._settings = settings

    def caller(self, authorization: Annotated[str, Header()] = "") -> Caller:
        """Whose token came with the request."""
        match = re.fullmatch(r"Bearer +(\S+)", authorization.strip(), re.IGNORECASE)
        caller = self._callers.caller(match[1]) if match else None
        if caller is None:
            text = "the token is nobody's" if match else "a request has a header `Authorization: Bearer TOKEN`"
            raise _Stop(HTTPStatus.UNAUTHORIZED, text, WWW_Authenticate="Bearer")
        return caller

    def let(self, caller: Caller, verb: str, tenant: str) -> None:
        """Stops who may not `verb` leases of `tenant`."""
        if not self.may(caller, verb, tenant):
            holder = self._settings.holder(tenant)
            where = f" in namespace {holder.namespace}" if holder is not None else ""
            raise _Stop(HTTPStatus.FORBIDDEN, f"{caller.user} may not {verb} leases.gpumem.io {tenant!r}{where}")

    def may_any(self, caller: Caller) -> bool:
        """Whether the caller may ask for the leases of some tenant."""
        return any(self.may(caller, "create", rule.tenant) for rule in self._settings.holders)

    def may(self, caller: Caller, verb: str, tenant: str) -> bool:
        """Whether; a tenant that may hold no leases has no namespace to be asked about."""
        holder = self._settings.holder(tenant)
        return holder is not None and self._callers.may(caller, verb, holder.namespace, tenant)


def lease_api(keeper: LeaseKeeper, callers: Callers, settings: LeaseSettings, log: Log) -> FastAPI:
    """The application."""
    api = FastAPI(title="gpumem leases", openapi_url=None)
    gate = Gatekeeper(callers, settings)
    from_token = Depends(gate.caller)

    def found(lease: Lease | None, lease_id: str) -> Lease:
        if lease is None:
            text = f"there is no lease {lease_id}: it was never asked for, was over long ago, or its store lost it"
            raise _Stop(HTTPStatus.NOT_FOUND, text)
        return lease

    def mine(caller: Caller, verb: str, lease: Lease | None, lease_id: str) -> Lease:
        gate.let(caller, verb, found(lease, lease_id).tenant)
        return found(lease, lease_id)

    @api.post("/v1/leases")
    def ask(request: LeaseRequest, caller: Caller = from_token) -> JSONResponse:
        # Who may ask for some tenant is told its typing error, and which there are; a stranger is told nothing.
        if settings.holder(request.tenant) is not None or not gate.may_any(caller):
            gate.let(caller, "create", request.tenant)
        return _answer(keeper.ask(request, caller.holder), settings, HTTPStatus.CREATED)

    @api.get("/v1/leases")
    def every(caller: Caller = from_token) -> JSONResponse:
        tenants = [rule.tenant for rule in settings.holders if gate.may(caller, "list", rule.tenant)]
        leases = [lease for lease in keeper.book.leases.values() if lease.tenant in tenants]
        return JSONResponse({"leases": [shown(lease, settings) for lease in _in_order(leases)]})

    @api.get("/v1/leases/{lease_id}")
    def one(lease_id: str, caller: Caller = from_token) -> JSONResponse:
        return JSONResponse(shown(mine(caller, "get", keeper.find(lease_id), lease_id), settings))

    @api.put("/v1/leases/{lease_id}")
    def renew(lease_id: str, renewal: Renewal | None = None, caller: Caller = from_token) -> JSONResponse:
        mine(caller, "update", keeper.known(lease_id), lease_id)
        lease = found(keeper.renew(lease_id, renewal.used_mib if renewal else None), lease_id)
        return _answer(lease, settings, HTTPStatus.OK)

    @api.delete("/v1/leases/{lease_id}")
    def release(lease_id: str, caller: Caller = from_token) -> JSONResponse:
        mine(caller, "delete", keeper.known(lease_id), lease_id)
        return JSONResponse(shown(found(keeper.release(lease_id), lease_id), settings))

    _errors(api, log)
    return api


def shown(lease: Lease, settings: LeaseSettings) -> dict[str, Any]:
    """A lease as callers see it."""
    document = lease.model_dump(mode="json", exclude={"base_mib", "holder"})
    return document | {"user": lease.holder.user, "pod": lease.holder.pod, "ttl_seconds": settings.ttl_seconds}


def _answer(lease: Lease, settings: LeaseSettings, granted: HTTPStatus) -> JSONResponse:
    if lease.state == "waiting":
        return JSONResponse(shown(lease, settings), HTTPStatus.ACCEPTED)
    return JSONResponse(shown(lease, settings), granted if lease.state == "granted" else _ENDED[granted])


def _in_order(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: (lease.asked_at, lease.id))


def _errors(api: FastAPI, log: Log) -> None:
    """Every refusal is JSON with `error`, and with place, value, rule and repair where the request is at fault."""

    @api.exception_handler(_Stop)
    def stopped(_: Request, error: _Stop) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.code, error.headers)

    @api.exception_handler(LeaseRefused)
    def refused(_: Request, error: LeaseRefused) -> JSONResponse:
        return _problem(error.problem)

    @api.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "body"
        value = "" if first["type"] == "missing" else str(first.get("input", ""))[:100]
        repair = "send JSON with tenant, mib, lane and, where it may wait, max_wait_seconds and request_id"
        return _problem(Problem(place, value, str(first["msg"]), repair))

    @api.exception_handler(DependencyError)
    def silent(_: Request, error: DependencyError) -> JSONResponse:
        log.warning("lease_request_failed", reason=str(error))
        text = "it cannot be found out now whether that may be; try again"
        return JSONResponse({"error": text}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _problem(problem: Problem) -> JSONResponse:
    body = {"place": problem.path, "value": problem.value, "rule": problem.rule, "repair": problem.repair}
    error = f"{problem.path} = {problem.value}: {problem.rule}; {problem.repair}"
    return JSONResponse({"error": error, **body}, HTTPStatus.UNPROCESSABLE_ENTITY)
