"""The embedded engine: batch/v1 Jobs, held suspended until the manager lets them go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from helpers.adapters.job_engines.documents import group_name
from helpers.adapters.job_engines.engine import JobEngineBase
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability
from helpers.domain.jobs.ordering import Policy
from helpers.domain.jobs.room import PoolRooms

POD_GROUP_API = "scheduling.k8s.io/v1alpha2"
_CAPABILITIES = frozenset(
    {Capability.FIFO, Capability.PRIORITY, Capability.FAIR_SHARE, Capability.GANG, Capability.PREEMPTION}
)
_LACKING = {
    Policy.FIFO: {Capability.PRIORITY, Capability.FAIR_SHARE},
    Policy.PRIORITY: {Capability.FAIR_SHARE},
    Policy.FAIR_SHARE: set[Capability](),
}


class NativeEngine(JobEngineBase):
    """`ports.job_engine.JobEngine`. Order and turns are the domain's; where pods go is the scheduler's.

    gang: a job is let go when all its workers find room, and fails as a whole; with `scheduler_gangs` the
    scheduler, too, places all of its pods or none. preemption: whoever lost
    its place waits again; the manager itself takes nobody's place away.
    """

    name = "native"

    def capabilities(self) -> frozenset[Capability]:
        """What the domain's order can do, by its policy: where age alone counts, nobody is more urgent."""
        return _CAPABILITIES - _LACKING[self._settings.policy]

    def lets_go_itself(self) -> bool:
        """The manager does, by the order."""
        return False

    def rooms(self) -> Mapping[Pool, PoolRooms]:
        """The nodes, as far as the estate's are known."""
        return self._objects.rooms()

    def ensure(self, job: Job) -> None:
        """The Job, and with it the scheduler's group, which goes when the Job goes."""
        super().ensure(job)
        if self._is_group(job):
            found = self._objects.found(job)
            if found is not None:
                self._objects.make(self.pod_group(job, found["metadata"]["uid"]))

    def document(self, job: Job) -> dict[str, Any]:
        """The Job, its pods in the group where there is one."""
        found = super().document(job)
        if self._is_group(job):
            found["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": group_name(job)}
        return found

    def pod_group(self, job: Job, job_uid: str) -> dict[str, Any]:
        """All its workers, or none."""
        spec = {"schedulingPolicy": {"gang": {"minCount": job.spec.workers}}}
        return self._objects.documents.pod_group(job, job_uid, POD_GROUP_API, spec)

    def _is_group(self, job: Job) -> bool:
        return self._settings.scheduler_gangs and job.spec.workers > 1

    def let_go(self, job: Job, reason: str, avoids: Collection[str] = ()) -> None:
        """Its Job is not suspended any more."""
        found = self._objects.found(job)
        if found is not None and not self._objects.is_next_attempt(found, job):
            self.hold(job)  # with other capacity than it was made for
        self._objects.let_go(job, reason, avoids)
