"""Pausing and resuming by the application's own BullMQ: `ports.queues.QueueHands`."""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.domain.errors import DependencyError, InputError
from helpers.domain.lanes.clients import ClientName
from helpers.ports.log import Log

FOLDER = Path(__file__).parent
MAJORS = (4, 5, 6)
ENV_REDIS_URL = "GPUMEM_REDIS_URL"
START_SECONDS = 20.0  # Node loads BullMQ in half a second; a cold disk takes longer
ANSWER_SECONDS = 3.0


def check_clients(folder: Path = FOLDER) -> None:
    """All that a queue may turn out to need is there: which major an application has shows only in Redis.

    Args:
        folder: Holds `v4`, `v5` and `v6`, each with BullMQ in its node_modules.

    Raises:
        InputError: something is missing; names all of it, and the repair.
    """
    if shutil.which("node") is None:
        raise InputError("PATH has no node, by which BullMQ's own clients pause queues: install Node 18 or newer")
    missing = [f"v{major}" for major in MAJORS if not _installed(folder / f"v{major}")]
    if missing:
        raise InputError(
            f"{folder}: BullMQ's clients {', '.join(missing)} are not installed, and pausing with another major "
            "version than the application's loses jobs: run `npm ci` in each of these folders of the project (there "
            "`./lab/setup.sh --with-queues` does), or name the folder that holds them by --clients-folder"
        )


def _installed(folder: Path) -> bool:
    return all((folder / "node_modules" / name).is_dir() for name in ("bullmq", "ioredis"))


class BullmqHands:
    """One process a major version. One that does not answer is ended, and the next act starts another."""

    def __init__(self, url: str, prefix: str, log: Log, *, folder: Path = FOLDER) -> None:
        self._url = url
        self._prefix = prefix
        self._log = log
        self._folder = folder
        self._clients: dict[ClientName, _Client] = {}

    def pause(self, name: str, client: ClientName) -> None:
        """Pauses the queue called `name`.

        Raises:
            DependencyError: the client cannot run or did not answer; whether it was done is unknown.
        """
        self._act("pause", name, client)

    def resume(self, name: str, client: ClientName) -> None:
        """Resumes it; raises as `pause` does."""
        self._act("resume", name, client)

    def warm(self, client: ClientName) -> None:
        """Starts that client and does not wait for it, so that the first pause need not, either.

        Raises:
            DependencyError: it cannot run here.
        """
        self._client(client)

    def close(self) -> None:
        """Ends all clients."""
        for client in self._clients.values():
            client.close()
        self._clients = {}

    def _act(self, act: str, name: str, client: ClientName) -> None:
        try:
            self._client(client).ask({"do": act, "queue": name, "prefix": self._prefix})
        except _NoAnswer as error:
            if (failed := self._clients.pop(client, None)) is not None:
                failed.close()
            raise DependencyError(f"BullMQ {client}: {act} of {name}: {error}") from error

    def _client(self, client: ClientName) -> _Client:
        running = self._clients.get(client)
        if running is not None and running.alive():
            return running
        folder = self._folder / f"v{client}"
        node = shutil.which("node")
        if node is None or not _installed(folder):  # both were there at the start: check_clients
            raise DependencyError(f"the client for BullMQ {client} is gone: node or {folder}/node_modules")
        started = _Client([node, str(FOLDER / "client.js"), str(folder)], self._url)
        self._log.info("client_started", client=client, pid=started.pid)
        self._clients[client] = started
        return started


class _NoAnswer(Exception):
    """The client did not answer, or answered that it could not."""


class _Client:
    """One Node process; its answers are read by a thread, so that every wait has a bound."""

    def __init__(self, command: list[str], url: str) -> None:
        # The URL may hold the password: the environment is not shown to other users, arguments are.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, ENV_REDIS_URL: url}
        )
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ids = itertools.count(1)
        self._is_ready = False
        threading.Thread(target=self._read, name="bullmq-client", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, what: dict[str, str]) -> None:
        """One act, answered; the first waits until it has loaded."""
        if not self._is_ready:
            self._next(lambda answer: bool(answer.get("ready")), START_SECONDS)
            self._is_ready = True
        number = next(self._ids)
        try:
            print(json.dumps({"id": number, **what}), file=self._process.stdin, flush=True)
        except OSError as error:
            raise _NoAnswer(f"it has ended: {error}") from error
        answer = self._next(lambda one: one.get("id") == number, ANSWER_SECONDS)
        if not answer.get("ok"):
            raise _NoAnswer(str(answer.get("error")))

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _next(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        try:
            while True:
                answer = self._answers.get(timeout=seconds)
                if "ended" in answer:
                    raise _NoAnswer("it has ended")
                if wanted(answer):
                    return answer
        except queue.Empty as error:
            raise _NoAnswer(f"no answer in {seconds:.0f} s") from error

    def _read(self) -> None:
        try:
            for line in self._process.stdout or ():
                self._answers.put(json.loads(line))
        except ValueError:  # no JSON, or the stream was closed under our hands
            pass
        self._answers.put({"ended": True})
