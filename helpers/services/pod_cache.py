"""The node's pods as last read, kept apart from sampling: a slow API must not delay a sample."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from helpers.domain.errors import DependencyError
from helpers.domain.telemetry.pod_directory import PodDirectory, read_pods
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.ports.telemetry import PodList

_LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class PodState:
    """What is known of the pods. `directory` is None until the first reading succeeded."""

    directory: PodDirectory | None = None
    read_at: datetime | None = None
    up: bool = False
    round_count: int = 0


class PodCache:
    """Reads pods every `interval_seconds`, and sooner when asked to; in a thread of its own.

    `gap_seconds` is the least time between two readings: processes that appear one by one must not
    become a list call each. `claimed` answers `{(namespace, claim): MiB}` of what is prepared on this node.
    """

    def __init__(
        self,
        pods: PodList,
        *,
        resource: str,
        interval_seconds: float,
        clock: Clock,
        log: Log,
        gap_seconds: float = 1.0,
        claimed: Callable[[], Mapping[tuple[str, str], int]] | None = None,
    ) -> None:
        self._pods = pods
        self._claimed = claimed
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._gap_seconds = gap_seconds
        self._clock = clock
        self._log = log
        self._changed = threading.Condition()
        self._state = PodState()
        self._wanted = False
        self._in_hand = False
        self._stopped = False
        self._failures_in_a_row = 0
        self._logged_unreadable: frozenset[tuple[str, str, str]] = frozenset()

    def start(self) -> None:
        """Begins reading."""
        threading.Thread(target=self._run, name="pods", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread after the reading in hand."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def state(self) -> PodState:
        """What is known now."""
        with self._changed:
            return self._state

    def ask(self, wait_seconds: float) -> tuple[PodState, bool]:
        """Asks for a reading and waits at most `wait_seconds`; whether one succeeded that began after this call."""
        with self._changed:
            self._wanted = True
            # The round in hand may have begun before; the one after it certainly began later. The very
            # first one is enough: nobody has seen a process yet that it could be older than.
            target = self._state.round_count + (2 if self._in_hand and self._state.round_count else 1)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._state.round_count >= target or self._stopped, wait_seconds)
            return self._state, self._state.round_count >= target and self._state.up

    def _run(self) -> None:
        while not self._stopped:
            with self._changed:
                self._wanted, self._in_hand = False, True
            state = self.read_once()
            with self._changed:
                self._state, self._in_hand = state, False
                self._changed.notify_all()
            self._rest()

    def _rest(self) -> None:
        retry = min(_LONGEST_RETRY_SECONDS, 2.0**self._failures_in_a_row)
        pause = self._interval_seconds if not self._failures_in_a_row else min(retry, self._interval_seconds)
        gap = self._gap_seconds if not self._failures_in_a_row else pause
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, min(gap, pause))
            self._changed.wait_for(lambda: self._wanted or self._stopped, max(0.0, pause - gap))

    def read_once(self) -> PodState:
        """One reading, in the caller's thread; the state after it."""
        before = self._state
        try:
            directory = read_pods(self._pods.pods(), self._resource, self._claimed() if self._claimed else None)
        except DependencyError as error:
            self._failures_in_a_row += 1
            self._log.warning("pods_unreadable", reason=str(error), failures_in_a_row=self._failures_in_a_row)
            return PodState(before.directory, before.read_at, up=False, round_count=before.round_count + 1)
        self._failures_in_a_row = 0
        self._log_unreadable(directory)
        return PodState(directory, self._clock.now_at(), up=True, round_count=before.round_count + 1)

    def _log_unreadable(self, directory: PodDirectory) -> None:
        """Once for each container, not at every reading."""
        now = frozenset((one.namespace, one.pod, one.container) for one in directory.unreadable)
        for one in directory.unreadable:
            if (one.namespace, one.pod, one.container) not in self._logged_unreadable:
                self._log.warning(
                    "budget_unreadable",
                    namespace=one.namespace, pod=one.pod, container=one.container, reason=one.reason,
                )  # fmt: skip
        self._logged_unreadable = now
