"""Job queues as the coordinator sees them, and the few things that it does to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from helpers.domain.lanes.clients import ClientName
from helpers.domain.lanes.facts import PauseMark, QueueFacts


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """One entry of a queue's own event stream: `active`, `completed`, `paused`, ... `at_ms`: Redis's clock."""

    queue: str
    name: str
    at_ms: int
    job: str = ""


class QueueView(Protocol):
    """What Redis holds. Everything here raises DependencyError where it does not answer."""

    def snapshot(self) -> Mapping[str, QueueFacts]:
        """Every queue of every lane, all at one instant."""
        ...

    def wait(self, timeout_seconds: float) -> tuple[QueueEvent, ...]:
        """Events since `start_over` that were not given out before; waits up to `timeout_seconds` for the first."""
        ...

    def start_over(self) -> None:
        """Events of before are of no interest any more: a new leader, or a Redis that lost its streams."""
        ...


class QueueHands(Protocol):
    """Pausing and resuming, by the client that is right for the queue."""

    def pause(self, queue: str, client: ClientName) -> None:
        """No job of `queue` begins after this has returned; those that run go on.

        Raises:
            DependencyError: the client is not installed or did not answer; whether it was done is unknown.
        """
        ...

    def resume(self, queue: str, client: ClientName) -> None:
        """Jobs of `queue` may begin again. Raises as `pause` does."""
        ...

    def warm(self, client: ClientName) -> None:
        """Get ready for a pause by that client; returns at once. Raises where it cannot run at all."""
        ...


class LaneBoard(Protocol):
    """What the coordinator leaves in Redis, under `gpumem:`. Everything here raises DependencyError."""

    def write_mark(self, mark: PauseMark) -> None:
        """The pause of `mark.queue` is ours."""
        ...

    def drop_mark(self, queue: str) -> None:
        """It is ours no more."""
        ...

    def publish(self, documents: Mapping[str, str], life: timedelta) -> None:
        """`{key below gpumem:: JSON}` for applications and their workers, each with that life."""
        ...
