"""The API over real HTTP, with the services behind it as they are and an engine that a test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.adapters.metrics import new_registry
from helpers.apps.manager.api import Counted, manager_api
from helpers.apps.manager.world import ApiWorld
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.leases import Caller
from tests.fakes.manager import SETTINGS, ManagerBench

ALICE, BOB, VIEWER = "token-of-alice", "token-of-bob", "token-of-viewer"
ALL = ("create", "get", "list", "delete")


class FakeProjectCallers:
    """`{token: user}`, and `{(user, verb, project)}` that is allowed."""

    def __init__(self) -> None:
        self.users = {ALICE: "alice", BOB: "bob", VIEWER: "viewer", "token-of-nobody": "nobody"}
        self.allowed = {("alice", verb, "vision") for verb in ALL} | {("bob", verb, "text") for verb in ALL}
        self.allowed |= {("viewer", verb, "vision") for verb in ("get", "list")}
        self.broken = ""

    def caller(self, token: str) -> Caller | None:
        self._answer()
        return Caller(self.users[token]) if token in self.users else None

    def may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:
        self._answer()
        return (caller.user, verb, namespace) in self.allowed

    def _answer(self) -> None:
        if self.broken:
            raise DependencyError(self.broken)


class Scene:
    """`bench` is the manager behind the API; `application` the API itself."""

    def __init__(self, folder: Path, url: str = "", settings: ManagerSettings = SETTINGS) -> None:
        self.bench, self.callers = ManagerBench(folder, settings, url), FakeProjectCallers()
        self.registry = new_registry("gpumem-manager", "test")
        self.healthy = True
        bench = self.bench
        metrics = PrometheusManagerMetrics(self.registry, ["vision", "text"])
        self.world = ApiWorld(
            settings=bench.settings,
            store=bench.store,
            desk=bench.desk,
            board=bench.board,
            purse=bench.purse,
            engine=bench.engine,
            callers=self.callers,
            clock=bench.clock,
            log=bench.log,
            healthy=lambda: self.healthy,
        )
        self.api = manager_api(self.world)
        self.application = Counted(self.api, metrics)
        self.client = httpx.Client(timeout=20)

    def send(self, method: str, path: str, body: Any = None, token: str = ALICE, **headers: str) -> httpx.Response:
        """One request."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, path, json=body, headers=sent)

    def submit(self, body: Any, token: str = ALICE, **headers: str) -> httpx.Response:
        """A submit."""
        return self.send("POST", "/api/v1/gpu/jobs", body, token, **headers)
