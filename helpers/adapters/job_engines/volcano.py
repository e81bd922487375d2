"""Volcano: the same Jobs, whose pods are Volcano's to schedule, all of a PodGroup or none.

Volcano holds pods, not Jobs: a Job is made unsuspended, and its pods wait until its PodGroup is scheduled, as long
as that takes. Nothing may be counted from the Job's creation, then.
PodGroup: scheduling.volcano.sh/v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.adapters.job_engines.documents import group_name
from helpers.adapters.job_engines.external import CAPABILITIES, ExternalQueueEngine
from helpers.domain import names
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability, JobObservation, Phase
from helpers.domain.quantity import canonical_count

POD_GROUP_API = "scheduling.volcano.sh/v1beta1"
SCHEDULER = "volcano"
GROUP_ANNOTATION = "scheduling.k8s.io/group-name"


class VolcanoEngine(ExternalQueueEngine):
    """`ports.job_engine.JobEngine`; Volcano decides who goes."""

    name = "volcano"

    def capabilities(self) -> frozenset[Capability]:
        """Volcano's own, and preemption where the estate's classes may."""
        return CAPABILITIES | ({Capability.PREEMPTION} if self._settings.may_preempt else set())

    def ensure(self, job: Job) -> None:
        """The Job first: its PodGroup goes with it when it goes, and until that is there no pod of it is scheduled."""
        super().ensure(job)
        found = self._objects.found(job)
        if found is not None:
            self._objects.make(self.pod_group(job, found["metadata"]["uid"]))

    def observe(self) -> Mapping[str, JobObservation]:
        """Let go is whoever has a pod on a node; until then it is held, by Volcano."""
        seen = self._objects.observe(queues_pods=True)
        waits = JobObservation(Phase.HELD, "Volcano holds its pods")
        return {
            job_id: waits if found.phase is Phase.STARTING and not found.nodes else found
            for job_id, found in seen.items()
        }

    def document(self, job: Job) -> dict[str, Any]:
        """The Job, not suspended, its pods in the group."""
        found = super().document(job)
        found["spec"]["suspend"] = False
        template = found["spec"]["template"]
        # The Job's own deadline would run in the queue; a pod's runs on its node.
        template["spec"]["activeDeadlineSeconds"] = found["spec"].pop("activeDeadlineSeconds")
        template["metadata"]["annotations"] |= {
            GROUP_ANNOTATION: group_name(job),
            names.VOLCANO_QUEUE_ANNOTATION: names.project_queue(job.project_id),
        }
        template["spec"]["schedulerName"] = SCHEDULER
        return found

    def pod_group(self, job: Job, job_uid: str) -> dict[str, Any]:
        """All its workers, or none."""
        asked = self._objects.documents.gpus(job)
        gpus = {name: canonical_count(amount * job.spec.workers) for name, amount in asked.items()}
        priority = self._settings.priority_classes.get(job.spec.priority.value)
        spec = {
            "minMember": job.spec.workers,
            "queue": names.project_queue(job.project_id),
            **({"priorityClassName": priority} if priority else {}),
            "minResources": gpus,
        }
        return self._objects.documents.pod_group(job, job_uid, POD_GROUP_API, spec)
