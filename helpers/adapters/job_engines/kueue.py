"""Kueue queues: the same Jobs, each with the label that hands it to its project's LocalQueue.

Kueue admits a Job as a whole (its quota, all or nothing), by priority and then by age, lends between the
projects of a cohort, and takes a Job back by suspending it. Labels: kueue.x-k8s.io, Kueue 0.15 or newer.
"""

from __future__ import annotations

from typing import Any

from helpers.adapters.job_engines.external import CAPABILITIES, ExternalQueueEngine
from helpers.domain import names
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability


class KueueEngine(ExternalQueueEngine):
    """`ports.job_engine.JobEngine`; Kueue decides who goes."""

    name = "kueue"

    def capabilities(self) -> frozenset[Capability]:
        """Kueue's own, and what the estate has set up: preemption by its classes, ProvisioningRequests."""
        more = {Capability.PREEMPTION} if self._settings.may_preempt else set()
        more |= {Capability.PROVISIONING_REQUEST} if self._settings.provisioning_class else set()
        return CAPABILITIES | more

    def document(self, job: Job) -> dict[str, Any]:
        """The Job, with its queue and priority."""
        found = super().document(job)
        labels = {names.KUEUE_QUEUE_LABEL: names.LOCAL_QUEUE}
        if priority := self._settings.priority_classes.get(job.spec.priority.value):
            labels[names.KUEUE_PRIORITY_LABEL] = priority
        found["metadata"]["labels"] = {**found["metadata"]["labels"], **labels}
        return found
