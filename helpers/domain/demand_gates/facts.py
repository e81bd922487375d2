"""What is known of a demand gate when it is decided, as frozen values. Unknown is None here and never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import AwareDatetime

LeaseState = Literal["none", "queued", "granted"]


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """The tenant's workload as it was read.

    `pods_count`: pods that are still there, those that terminate included: they hold memory until
    they are gone. `released`: `gpumem release` has marked it, so it is a person's.
    """

    replicas: int
    pods_count: int
    released: bool = False


@dataclass(frozen=True, slots=True)
class GateFacts:
    """One look.

    `workload`: None where it is not there. `free_mib`: free on the freest card of its node.
    `to_come_mib`: what other gates there were granted and have not taken of it yet.
    `demand_count`: jobs that would run if the gate were open; 1 for a gate without a lane. `lease`:
    what the book says; None where it does not answer.
    """

    now_at: AwareDatetime
    now_seconds: float
    workload: WorkloadFacts | None
    free_mib: int | None
    demand_count: int | None
    lease: LeaseState | None = "none"
    to_come_mib: int = 0

    @property
    def room_mib(self) -> int | None:
        """What is free and nobody else's; None: not known."""
        return None if self.free_mib is None else self.free_mib - self.to_come_mib


@dataclass(frozen=True, slots=True)
class GateTimers:
    """Since when, on the monotonic clock, something has been so without a break; None: it is not so.

    `freeing_mib`: the free memory when the gate began to close. `taking`: this process asked for the
    lease in order to open; one that it finds granted without having asked belongs to an end.
    """

    roomy_seconds: float | None = None
    short_seconds: float | None = None
    idle_seconds: float | None = None
    unleased_seconds: float | None = None
    gone_seconds: float | None = None
    freeing_mib: int | None = None
    taking: bool = False
