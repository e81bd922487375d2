"""What queues and lets go: the cluster's own machinery. It never places a pod, and nor does the manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from helpers.domain.jobs.gpus import CardKind, Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability, JobObservation
from helpers.domain.jobs.ordering import Holding, Rules, Waiting


@dataclass(frozen=True)
class QueueFacts:
    """All that an order is made of.

    `capacity`: `{pool: cards, instances or MiB in all}`; a pool whose size nobody knows is missing.
    """

    waiting: Sequence[Waiting]
    holding: Sequence[Holding]
    capacity: Mapping[Pool, int]
    rules: Rules
    now_at: datetime = field(kw_only=True)


class JobEngine(Protocol):
    """Everything here raises DependencyError where the cluster does not answer, Rejected where it says no for good.

    Every act may be done twice: objects are named after the job.
    """

    @property
    def name(self) -> str:
        """`native`, `kueue` or `volcano`."""
        ...

    def capabilities(self) -> frozenset[Capability]:
        """What it can do here and now."""
        ...

    def ensure(self, job: Job) -> None:
        """Its objects are there, held; found there already, nothing is changed."""
        ...

    def lacks_room(self, job: Job) -> str:
        """Why its workers would not all find room on the nodes now, though the pool has enough in all; empty: they do.

        It knows what was let go before, also where no pod of that is placed yet.
        """
        ...

    def offers(self, job: Job) -> bool:
        """Whether there is, or can be made, any node of the job's capacity (spot, on-demand) that it fits on."""
        ...

    def let_go(self, job: Job, reason: str) -> None:
        """It may start, because of `reason`. Engines that decide that themselves do nothing."""
        ...

    def hold(self, job: Job) -> None:
        """It may not run (again) until it is let go: for another attempt, with `job.capacity`."""
        ...

    def remove(self, job: Job) -> None:
        """Its objects are gone, or on their way; not there already, nothing happens."""
        ...

    def observe(self) -> Mapping[str, JobObservation]:
        """`{job_id: what is seen}` of every job that has objects."""
        ...

    def lets_go_itself(self) -> bool:
        """Whether the engine decides who goes; else the manager does, by `order`."""
        ...

    def order(self, facts: QueueFacts) -> Sequence[Waiting]:
        """All that wait, in the engine's own order."""
        ...

    def capacity(self) -> Mapping[Pool, int]:
        """What there is of each pool now."""
        ...

    def machines(self) -> Mapping[CardKind, int]:
        """`{(card's price key, capacity type): cards}` of the nodes that are there, whoever uses them."""
        ...

    def logs(self, job: Job, *, tail_lines: int, worker: int) -> str:
        """The end of a worker's output; NotFound where there is none (yet, or any more)."""
        ...

    def ask_checkpoint(self, job: Job) -> datetime | None:
        """Has its pods told to save their state, without waiting for their answers.

        When that began, at the first call after all of them said yes; None: not yet, or not all did, and they are
        asked again in their time.
        """
        ...
