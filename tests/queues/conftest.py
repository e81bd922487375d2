"""A real redis-server for each test, and the reason where these tests cannot run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from helpers.adapters.bullmq_clients.hands import FOLDER, MAJORS
from lab.programs import NoProgram, find_program
from lab.redis_server import RedisServer, redis_server


def why_not() -> str:
    """Why no test with real queues can run here; empty where they can."""
    if shutil.which("node") is None:
        return "real BullMQ clients need node"
    missing = [f"v{major}" for major in MAJORS if not (FOLDER / f"v{major}" / "node_modules").is_dir()]
    if missing:
        return f"BullMQ's clients {', '.join(missing)} are not installed: run ./lab/setup.sh --with-queues"
    found = find_program("redis-server")
    return found.reason if isinstance(found, NoProgram) else ""


@pytest.fixture(scope="session", autouse=True)
def _queues_can_be_had() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def redis_box(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def client(redis_box: RedisServer) -> Iterator[redis.Redis]:
    connection: redis.Redis = redis.Redis.from_url(redis_box.url, decode_responses=True)
    yield connection
    connection.close()
