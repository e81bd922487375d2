"""What a helper gets from its own process: its version, its mounted document, and the wish that it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from helpers.domain.errors import InputError
from helpers.ports.clock import Clock

Document = TypeVar("Document", bound=BaseModel)


def installed_version() -> str:
    """The installed version; `unknown` in a checkout that was never installed."""
    try:
        return metadata.version("gpumem")
    except metadata.PackageNotFoundError:
        return "unknown"


def read_document(model: type[Document], path: Path, what: str, config_map: str) -> Document:
    """The JSON document at `path` as `model`; `what` names it, and `config_map` where it is mounted from.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{what} {path}: {error.strerror}. Mount the ConfigMap {config_map} there, or name another with --settings."
        ) from error
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise InputError(f"{what} {path}: {found}. Render the estate again.") from error


@contextlib.contextmanager
def stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; the handlers that were there come back at the end."""
    stopped = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        # Only noted: what is being written is finished first. No log line here, either: the signal may
        # have come while this very thread holds the log's lock.
        stopped.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Pulse:
    """A loop asks `stop` at every turn, several times a second; when it no longer does, it hangs.

    Args:
        stopped: Whether the process is to end.
        clock: Its monotonic side counts.
        stuck_after_seconds: How long the loop may be silent before it counts as stuck.
        own_thread_only: What other threads ask says nothing about the loop, which is the thread that made this.
    """

    def __init__(
        self, stopped: Callable[[], bool], clock: Clock, *, stuck_after_seconds: float, own_thread_only: bool = False
    ) -> None:
        self._stopped = stopped
        self._clock = clock
        self._stuck_after_seconds = stuck_after_seconds
        self._owner = threading.get_ident() if own_thread_only else None
        self._asked_seconds = clock.monotonic_seconds()

    def stop(self) -> bool:
        """Whether to end; being asked is the beat."""
        if self._owner in (None, threading.get_ident()):
            self._asked_seconds = self._clock.monotonic_seconds()
        return self._stopped()

    def is_felt(self) -> bool:
        """Whether the loop has asked lately."""
        return self._clock.monotonic_seconds() - self._asked_seconds < self._stuck_after_seconds


class Loops:
    """Threads that work until the process ends; one that ended before is missed."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def start(self, name: str, run: Callable[[Callable[[], bool]], None], stop: Callable[[], bool]) -> None:
        """Starts one; it ends when `stop()`, and with the process."""
        thread = threading.Thread(target=run, args=(stop,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def alive(self) -> bool:
        """Whether all of them still run."""
        return all(thread.is_alive() for thread in self._threads)

    def join(self, bound_seconds: float) -> None:
        """Waits until they have ended, so long at most for each."""
        for thread in self._threads:
            thread.join(bound_seconds)
