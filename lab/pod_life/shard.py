"""A thread that does work in order, now or later; a pod's work always goes to the same one."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable

from lab.api import HTTP_NOT_FOUND, ApiError

RETRY_SECONDS = 1.0
RETRIES = 30
LOG = logging.getLogger(__name__)

Work = Callable[[], None]


class Shard(threading.Thread):
    """Runs work in the order it was put, and delayed work when it is due."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._queue: queue.SimpleQueue[tuple[float, int, Work, int]] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Work, int]] = []
        self._order = itertools.count()

    def put(self, work: Work) -> None:
        """Runs `work` as soon as possible."""
        self.later(0.0, work)

    def later(self, seconds: float, work: Work, tries: int = 0) -> None:
        """Runs `work` in `seconds`; it has to check by itself whether it is still wanted then."""
        due = time.monotonic() + seconds if seconds > 0 else 0.0
        self._queue.put((due, next(self._order), work, tries))

    def run(self) -> None:
        """The thread's loop."""
        while True:
            wait = max(self._due[0][0] - time.monotonic(), 0.0) if self._due else None
            try:
                arrived = self._queue.get(timeout=wait)
            except queue.Empty:
                self._do(heapq.heappop(self._due))
                continue
            if arrived[0] == 0.0:
                self._do(arrived)
            else:
                heapq.heappush(self._due, arrived)

    def _do(self, job: tuple[float, int, Work, int]) -> None:
        _, _, work, tries = job
        try:
            work()
        except ApiError as error:
            if error.status == HTTP_NOT_FOUND:
                LOG.info("the pod has gone meanwhile: %s", error)  # its DELETED event does the rest
            elif tries < RETRIES:
                LOG.warning("will be tried again: %s", error)
                self.later(RETRY_SECONDS, work, tries + 1)
            else:
                LOG.error("given up after %d tries: %s", tries + 1, error)
