"""The embedded engine: batch/v1 Jobs, held suspended until the manager lets them go."""

from __future__ import annotations

from helpers.adapters.job_engines.engine import JobEngineBase
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability

_CAPABILITIES = frozenset(
    {Capability.FIFO, Capability.PRIORITY, Capability.FAIR_SHARE, Capability.GANG, Capability.PREEMPTION}
)


class NativeEngine(JobEngineBase):
    """`ports.job_engine.JobEngine`. Order and turns are the domain's; where pods go is the scheduler's.

    gang: a job is let go when all its workers find room, and fails as a whole. preemption: whoever lost
    its place waits again; the manager itself takes nobody's place away.
    """

    name = "native"

    def capabilities(self) -> frozenset[Capability]:
        """What the domain's order can do."""
        return _CAPABILITIES

    def lets_go_itself(self) -> bool:
        """The manager does, by the order."""
        return False

    def lacks_room(self, job: Job) -> str:
        """Why its workers would not all find room now."""
        return self._objects.lacks_room(job)

    def offers(self, job: Job) -> bool:
        """Whether a machine of its capacity is there, or would be made."""
        return self._objects.offers(job)

    def let_go(self, job: Job, reason: str) -> None:
        """Its Job is not suspended any more."""
        found = self._objects.found(job)
        if found is not None and not self._objects.is_next_attempt(found, job):
            self.hold(job)  # with other capacity than it was made for
        self._objects.let_go(job, reason)
