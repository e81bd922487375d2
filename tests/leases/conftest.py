"""A real Redis, a real exporter's text over HTTP, and coordinators as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.programs import NoProgram, find_program
from lab.queues.apps import wait_until
from lab.queues.coordinators import CoordinatorProcess
from lab.redis_server import RedisServer, redis_server
from lab.small_exporter import LabExporter, lab_exporter
from lab.usage import PodUsage
from tests.leases.scene import card_settings

TOKEN = "a-token-of-the-trainer"


class LeaseScene:
    """Coordinators that share one Redis and one card of 14000 MiB, of which other pods use `used_mib`."""

    def __init__(self, folder: Path, redis: RedisServer, exporter: LabExporter, stack: ExitStack) -> None:
        self.folder, self.redis, self.exporter = folder, redis, exporter
        self.stack = stack
        self._count = 0
        self.tokens = folder / "tokens"
        self.tokens.write_text(f"{TOKEN} trainer-user trainer\n")
        self.tokens.chmod(0o600)

    def coordinator(self, *, url: str = "", lead: bool = True, **fields: Any) -> CoordinatorProcess:
        self._count += 1
        arguments = ("--lease-address", "127.0.0.1:0", "--lease-tokens", str(self.tokens))
        settings = card_settings(url or self.redis.url, self.exporter, **fields)
        folder = self.folder / f"coordinator-{self._count}"
        running = CoordinatorProcess(settings, folder, arguments=arguments)
        self.stack.callback(running.kill)
        wait_until(lambda: bool(running.of("leases_served")), "leases are served", 30)
        if lead:
            running.ready()
            wait_until(lambda: bool(running.of("leases_taken_over")), "leases are taken over", 30)
        return running

    def client(self, running: CoordinatorProcess) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return self.stack.enter_context(httpx.Client(base_url=running.lease_url, headers=headers, timeout=30))

    def holder(self, running: CoordinatorProcess, mib: int, lane: str = "day", max_wait_seconds: float = 60) -> Holder:
        return Holder(running.lease_url, mib, lane, max_wait_seconds, self.stack)


class Holder:
    """A process that holds a lease by the SDK."""

    def __init__(self, url: str, mib: int, lane: str, max_wait_seconds: float, stack: ExitStack) -> None:
        command = [sys.executable, "-m", "lab.queues.lease_holder", url, TOKEN, "trainer", str(mib), lane]
        self.process = subprocess.Popen([*command, str(max_wait_seconds)], stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []
        stack.callback(self.kill)
        threading.Thread(target=self._read, daemon=True).start()

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.said) if line["event"] == event]

    def holds(self) -> Holder:
        wait_until(lambda: bool(self.said), "the holder was answered", 60)
        assert self.of("held"), self.said
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said.append(json.loads(line))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[LeaseScene]:
    found = find_program("redis-server")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    uses: dict[str, PodUsage] = {}
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        exporter = stack.enter_context(lab_exporter("desk", lambda: uses))
        exporter.interval_seconds = 0.2
        yield LeaseScene(tmp_path, redis, exporter, stack)
