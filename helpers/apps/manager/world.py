"""All that the API's operations work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fastapi import Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from helpers.apps.manager.gate import Gate
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore
from helpers.ports.leases import Caller, Callers
from helpers.ports.log import Log
from helpers.services.manager_cards import CardBoard
from helpers.services.manager_jobs import JobDesk
from helpers.services.manager_money import Purse
from helpers.services.manager_queue import QueueBoard

Credentials = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="A token of the cluster: kubectl create token NAME.")),
]


@dataclass
class ApiWorld:
    """`healthy`: the process's loops turn. `engine` None: nothing is let go, and there are no logs.

    `cards` None: there is no cluster whose nodes could be looked at.
    """

    settings: ManagerSettings
    store: JobStore
    desk: JobDesk
    board: QueueBoard
    purse: Purse
    engine: JobEngine | None
    callers: Callers
    clock: Clock
    log: Log
    healthy: Callable[[], bool]
    cards: CardBoard | None = None

    @cached_property
    def gate(self) -> Gate:
        """Who may do what."""
        return Gate(self.callers, self.settings, self.clock)

    async def caller(self, credentials: Credentials = None) -> Caller:
        """Whose token came with the request. One that came just now is not asked about in a thread of its own."""
        token = credentials.credentials if credentials is not None else ""
        known = self.gate.seen(token)
        return known if known is not None else await run_in_threadpool(self.gate.caller, token)
