"""The manager over HTTP."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse

from helpers.apps.manager.answers import add_refusals
from helpers.apps.manager.page import page_routes
from helpers.apps.manager.routes_advice import advice_routes
from helpers.apps.manager.routes_board import board_routes
from helpers.apps.manager.routes_jobs import job_routes
from helpers.apps.manager.routes_projects import project_routes
from helpers.apps.manager.world import ApiWorld
from helpers.ports.manager_metrics import ManagerMetrics

DESCRIPTION = (
    "Submit, list, watch and cancel GPU jobs. Send a token of the cluster as `Authorization: Bearer TOKEN`; rights are "
    "`gpujobs.gpumem.io` (create, get, list, delete) in the project's namespace. Every refusal is "
    '`{"errors": [{"place", "value", "rule", "repair"}]}`.'
)


def manager_api(world: ApiWorld) -> FastAPI:
    """The application."""
    api = FastAPI(title="gpumem manager", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None)
    api.include_router(job_routes(world))
    api.include_router(project_routes(world))
    api.include_router(advice_routes(world))
    api.include_router(board_routes(world))
    api.include_router(page_routes())
    _own_routes(api, world)
    add_refusals(api, world.log)
    return api


def openapi_document() -> str:
    """The API as OpenAPI, for the documents: made without a manager."""
    api = manager_api(_no_world())
    return json.dumps(api.openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


class Counted:
    """Counts and times what is answered, by route."""

    def __init__(self, application: Any, metrics: ManagerMetrics) -> None:
        self._application = application
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began_seconds = time.perf_counter()
        code = HTTPStatus.INTERNAL_SERVER_ERROR.value
        counted = False

        def count() -> None:
            nonlocal counted
            if not counted:
                counted = True
                route = getattr(scope.get("route"), "path", "(none)")
                self._metrics.answered(f"{scope['method']} {route}", code, time.perf_counter() - began_seconds)

        async def noted(message: Any) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            elif not message.get("more_body", False):
                count()  # before the answer's end is sent: who has read an answer finds it in the figures
            await send(message)

        try:
            await self._application(scope, receive, noted)
        finally:
            count()


def _own_routes(api: FastAPI, world: ApiWorld) -> None:
    """What the cluster asks; no token."""

    @api.get("/healthz", include_in_schema=False)
    def healthz() -> Response:
        well = world.healthy()
        return PlainTextResponse("ok\n" if well else "stuck\n", 200 if well else HTTPStatus.SERVICE_UNAVAILABLE)

    @api.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        well = world.store.answers()
        return PlainTextResponse("ok\n" if well else "no database\n", 200 if well else HTTPStatus.SERVICE_UNAVAILABLE)


def _no_world() -> ApiWorld:
    """Enough of one to see which operations there are."""
    world = object.__new__(ApiWorld)
    world.log = cast("Any", None)
    return world
