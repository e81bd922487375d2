"""What Kueue and Volcano have in common: they decide who goes, and the manager only hands jobs over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from helpers.adapters.job_engines.engine import JobEngineBase
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability
from helpers.domain.jobs.ordering import Policy, Waiting, ordered
from helpers.domain.jobs.room import PoolRooms
from helpers.ports.job_engine import QueueFacts

CAPABILITIES = frozenset(
    {Capability.FIFO, Capability.PRIORITY, Capability.FAIR_SHARE, Capability.GANG, Capability.BORROWING}
)


class ExternalQueueEngine(JobEngineBase):
    """`ports.job_engine.JobEngine` whose queue is somebody else's."""

    def lets_go_itself(self) -> bool:
        """It does."""
        return True

    def rooms(self) -> Mapping[Pool, PoolRooms]:
        """Who finds room is the engine's to know."""
        return {}

    def let_go(self, job: Job, reason: str, avoids: Collection[str] = ()) -> None:
        """The engine's to do."""

    def order(self, facts: QueueFacts) -> Sequence[Waiting]:
        """Priority, then age, as one queue has it; who of two projects goes first is not known from outside."""
        rules = replace(facts.rules, policy=Policy.PRIORITY)
        return ordered(facts.waiting, facts.holding, facts.capacity, rules, facts.now_at)
