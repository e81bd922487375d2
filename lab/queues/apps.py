"""Applications of each BullMQ major as processes of their own, and coordinators beside them."""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.adapters.bullmq_clients.hands import ENV_REDIS_URL, FOLDER
from lab.errors import LabError

HERE = Path(__file__).parent
HELPER = HERE.parents[1] / "helpers" / "sdk" / "lane" / "gpumem-lane.js"


class App:
    """A Node application. `did` collects what its workers say: `{event, queue, job, at}`."""

    def __init__(self, url: str, major: int, *, helper: Path | None = None) -> None:
        command = [str(shutil.which("node")), str(HERE / "app.js"), str(FOLDER / f"v{major}")]
        command += [str(helper)] if helper else []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, ENV_REDIS_URL: url}
        )
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ids = itertools.count(1)
        self.did: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._answers.get(timeout=30)

    def ask(self, act: str, *, timeout_seconds: float = 30.0, **fields: Any) -> Any:
        """One command, answered."""
        number = self.send(act, **fields)
        while True:
            answer = self._answers.get(timeout=timeout_seconds)
            if answer["id"] == number:
                if not answer.get("ok"):
                    raise LabError(f"{act}: {answer.get('error')}")
                return answer.get("value")

    def send(self, act: str, **fields: Any) -> int:
        """One command whose answer nobody waits for."""
        number = next(self._ids)
        print(json.dumps({"id": number, "do": act, **fields}), file=self._process.stdin, flush=True)
        return number

    def add(self, name: str, *numbers: int, ms: int = 0, **opts: Any) -> None:
        """Jobs `{n, ms}`."""
        self.ask("add", queue=name, jobs=[{"data": {"n": number, "ms": ms}, "opts": opts} for number in numbers])

    def ended(self, name: str) -> list[int]:
        """The jobs of that queue that ended, in order."""
        return [one["job"] for one in list(self.did) if one["event"] == "ended" and one["queue"] == name]

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            what = json.loads(line)
            if "event" in what:
                self.did.append(what)
            else:
                self._answers.put(what)


@contextmanager
def app(url: str, major: int, *, helper: Path | None = None) -> Iterator[App]:
    """One that runs, and is gone afterwards."""
    running = App(url, major, helper=helper)
    try:
        yield running
    finally:
        running.kill()


def wait_until(check: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Polls `check`; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise LabError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
