"""What most tests here begin with: an application with both its queues at work, and a coordinator that knows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from helpers.domain.estate.coordinator import Redis
from helpers.domain.lanes.settings import CoordinatorSettings
from lab.queues.apps import App, app, wait_until
from lab.queues.coordinators import CoordinatorProcess, starting_coordinator
from lab.queues.stall import Proxy, proxy
from lab.redis_server import RedisServer
from tests.fakes.lanes import rule, settings

SETTLE_SECONDS = 0.5


def lanes(url: str, **fields: Any) -> CoordinatorSettings:
    """Two lanes that do not fit side by side; `fields` are the batch lane's."""
    chosen = (rule("realtime", "realtime"), rule("batch", **{"settle_seconds": SETTLE_SECONDS, **fields}))
    return settings(*chosen, redis=Redis(url=url), ttl_seconds=2.0, poll_seconds=0.5)


def is_paused(client: redis.Redis, queue: str = "ai-batch") -> bool:
    return bool(client.hexists(f"bull:{queue}:meta", "paused"))


def started(application: App, **work: Any) -> None:
    """Both queues exist, have workers, and have run a job; `work` is for the batch worker."""
    application.ask("work", queue="ai-realtime")
    application.ask("work", queue="ai-batch", **work)
    application.add("ai-realtime", 0)
    application.add("ai-batch", 0)
    wait_until(lambda: application.ended("ai-batch") == [0] == application.ended("ai-realtime"), "warm")


def sees_nothing(running: CoordinatorProcess) -> bool:
    """Whether it has noticed that Redis is silent: as it looked at the queues, or as it renewed its lead."""
    return bool(running.of("redis_does_not_answer") or running.of("leadership_not_renewed"))


def sees_again(running: CoordinatorProcess) -> bool:
    """Whether it has begun to follow the queues a second time."""
    return len(running.of("queues_followed")) > 1


@dataclass
class Scene:
    """All that runs. `between` lies between the coordinator (only) and Redis."""

    application: App
    running: CoordinatorProcess
    between: Proxy


@contextmanager
def warm_scene(
    server: RedisServer,
    folder: Path,
    declared: CoordinatorSettings | None = None,
    *,
    major: int = 5,
    helper: Path | None = None,
    stalls: bool = False,
    **work: Any,
) -> Iterator[Scene]:
    """Paused and resumed once, so that clients are loaded and nothing is under way.

    Args:
        server: Their Redis.
        folder: The coordinator's.
        declared: Its settings; `lanes` where there is nothing else to say.
        major: The application's BullMQ.
        helper: The application's worker-side helper.
        stalls: The coordinator reaches Redis through `between`.
        work: For the batch worker.
    """
    with ExitStack() as stack:
        between = stack.enter_context(proxy(server.port))
        chosen = declared or lanes(server.url)
        if stalls:
            chosen = chosen.model_copy(update={"redis": Redis(url=between.url)})
        running = stack.enter_context(starting_coordinator(chosen, folder))
        application = stack.enter_context(app(server.url, major, helper=helper))
        running.ready()
        started(application, **work)
        wait_until(lambda: bool(running.of("queue_resumed")), "settled after the warm-up")
        yield Scene(application, running, between)
