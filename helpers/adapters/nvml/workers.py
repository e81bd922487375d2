"""Calls that may never return, each in a thread of its own with a deadline.

NVML has no timeouts: a card that fell off the bus can hold a call for ever. The thread cannot be
ended, so it is left alone and asked nothing more until it comes back; its late answer is dropped.
A thread and not a process: eight interpreters would not fit the exporter's memory. The price: where
a hung call holds a lock inside the driver library, the other cards' calls hang too; then all
samples fail, which is true, and none is wrong.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class Hung(Exception):
    """The call has not returned by its deadline."""


@dataclass
class _Job(Generic[T]):
    call: Callable[[], T]
    done: threading.Event = field(default_factory=threading.Event)
    results: list[T] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        """Makes the call, in the worker's thread."""
        try:
            self.results.append(self.call())
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits, and raised there
            self.errors.append(error)
        self.done.set()


@dataclass(frozen=True)
class Pending(Generic[T]):
    """A call under way; `since_seconds` is on the monotonic clock."""

    job: _Job[T] | None
    since_seconds: float

    def result(self, deadline_seconds: float) -> T:
        """The call's result, waited for until the monotonic instant `deadline_seconds`.

        Raises:
            Hung: It did not return in time, or an earlier call still has not.
        """
        if self.job is None:
            raise Hung(f"an earlier call has not returned for {time.monotonic() - self.since_seconds:.0f} s")
        if not self.job.done.wait(max(0.0, deadline_seconds - time.monotonic())):
            raise Hung(f"no answer after {time.monotonic() - self.since_seconds:.1f} s")
        if self.job.errors:
            raise self.job.errors[0]
        return self.job.results[0]


class Worker:
    """One thread that makes one call at a time."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._done: threading.Event | None = None
        self._since_seconds = 0.0
        # A daemon: a thread stuck in the driver must not keep the process from ending.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def stuck(self) -> bool:
        """Whether a call is under way."""
        return self._done is not None and not self._done.is_set()

    def submit(self, call: Callable[[], T]) -> Pending[T]:
        """Starts `call`, unless an earlier one still runs: then the answer says so when it is asked for."""
        if self.stuck:
            return Pending(None, self._since_seconds)
        job = _Job(call)
        self._done, self._since_seconds = job.done, time.monotonic()
        self._calls.put(job.run)
        return Pending(job, self._since_seconds)

    def _run(self) -> None:
        while True:
            self._calls.get()()
