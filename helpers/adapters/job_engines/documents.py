"""The batch/v1 Job that a GPU job becomes. The same for every engine but for what hands it to a queue.

What makes it safe to do everything twice, and to know after a crash what happened:

- Its name is the job's id, and `attempt` says which try it is; the next try is another object of that name.
- It fails as a whole when one pod does (`backoffLimit: 0`), so that a gang never runs in part, and the Job
  controller starts nothing again behind the queue's back.
- A pod that was disrupted (evicted, preempted, its node gone) fails it by a rule of its own, which stays
  readable on the Job when the pods are long gone: that is how a lost place differs from a program's error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.adapters.job_engines import checkpoint_places
from helpers.domain import names
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.places import SPOT, Place
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import Checkpoint
from helpers.domain.quantity import canonical_count

API_VERSION, KIND = "batch/v1", "Job"
# So long a pod may wait for a node, for its image, or to be made at all. Then its job gives its place back: a machine
# that has not come by then is not coming soon (a cloud without spot capacity, say), and others could use what is held.
PLACE_SECONDS = 600
# The manager ends a job at its limit, which it counts from the nodes on; this ends it where no manager runs, and is
# counted by Kubernetes from the instant at which it was let go.
DEADLINE_SLACK_SECONDS = PLACE_SECONDS + 300
# How long what has ended can be looked at. Longer than any manager should be away.
KEPT_SECONDS = 3 * 24 * 3600
DISRUPTED = "DisruptionTarget"
_GPU_TAINTED = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
_SPOT_TAINTED = {"key": names.CAPACITY_TYPE_LABEL, "operator": "Equal", "value": SPOT, "effect": "NoSchedule"}


class JobDocuments:
    """Objects of jobs, for one estate."""

    def __init__(self, settings: ManagerSettings) -> None:
        self._settings = settings
        self._prefix = settings.label_prefix

    def places(self, job: Job) -> list[Place]:
        """The estate's nodes that have what the job asks for."""
        return [place for place in self._settings.places if place.pool == job.spec.demand.pool]

    def job(self, job: Job) -> dict[str, Any]:
        """The Job of its next attempt, held."""
        workers, attempt = job.spec.workers, job.attempt_count + 1
        left_seconds = max(0.0, job.spec.most_seconds(self._settings.max_duration_hours) - job.held_seconds)
        labels = self._labels(job)
        annotations = {
            self._annotation("attempt"): str(attempt),
            self._annotation("capacity"): job.capacity,
            self._annotation("pool"): job.spec.demand.pool.name,
            self._annotation("job-name"): job.spec.job_name,
        }
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": job.job_id,
                "namespace": job.project_id,
                "labels": labels,
                "annotations": annotations,
            },
            "spec": {
                "suspend": True,
                "completions": workers,
                "parallelism": workers,
                "completionMode": "Indexed" if workers > 1 else "NonIndexed",
                "backoffLimit": 0,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {
                    "rules": [{"action": "FailJob", "onPodConditions": [{"type": DISRUPTED, "status": "True"}]}]
                },
                "activeDeadlineSeconds": math.ceil(left_seconds) + DEADLINE_SLACK_SECONDS,
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "template": {
                    "metadata": {"labels": labels, "annotations": self._pod_annotations(job)},
                    "spec": self._pod(job, attempt),
                },
            },
        }

    def pod_group(self, job: Job, job_uid: str, api_version: str, spec: dict[str, Any]) -> dict[str, Any]:
        """A group of its next attempt's pods, which goes when the Job of that uid goes."""
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": job.job_id, "uid": job_uid}
        metadata = {
            "name": group_name(job),
            "namespace": job.project_id,
            "labels": self._labels(job),
            "ownerReferences": [owner],
        }
        return {"apiVersion": api_version, "kind": "PodGroup", "metadata": metadata, "spec": spec}

    def _labels(self, job: Job) -> dict[str, str]:
        return {
            "app.kubernetes.io/managed-by": names.MANAGER_COMPONENT,
            names.job_label(self._prefix): job.job_id,
            names.project_label(self._prefix): job.project_id,
        }

    def _annotation(self, what: str) -> str:
        return names.job_annotation(self._prefix, what)

    def _pod_annotations(self, job: Job) -> dict[str, str]:
        hook = job.spec.checkpoint
        asked = {self._annotation("checkpoint"): checkpoint_text(hook)} if hook is not None else {}
        return {**names.DO_NOT_DISRUPT, **asked}

    def _pod(self, job: Job, attempt: int) -> dict[str, Any]:
        place = self._settings.checkpoints_of(job.project_id)
        told = {**_told(job, attempt), **checkpoint_places.told(place, job), **job.spec.container.env}
        container: dict[str, Any] = {
            "name": names.JOB_CONTAINER,
            "image": job.spec.container.image,
            # What a user sets under the same name wins.
            "env": [{"name": name, "value": value} for name, value in told.items()],
            "resources": self._resources(job),
            **checkpoint_places.container_parts(place, job),
        }
        hook = job.spec.checkpoint
        if hook is not None and hook.http_path is not None:
            container["ports"] = [{"name": "checkpoint", "containerPort": hook.http_port}]
        if job.spec.container.command:
            container["command"] = list(job.spec.container.command)
        priority = self._settings.priority_classes.get(job.spec.priority.value)
        terms = list(self._terms(job))
        return {
            "restartPolicy": "Never",
            # A job's code has no business with the API server.
            "automountServiceAccountToken": False,
            **({"runtimeClassName": self._settings.runtime_class} if self._settings.runtime_class else {}),
            **({"priorityClassName": priority} if priority else {}),
            **({"affinity": _affinity(terms)} if terms else {}),
            "tolerations": self._tolerations(job),
            "containers": [container],
            **checkpoint_places.pod_parts(place),
        }

    def _resources(self, job: Job) -> dict[str, Any]:
        asked, requests, limits = job.spec.resources, {}, {}
        if asked.cpu:
            requests["cpu"] = asked.cpu  # no limit: a processor that nobody else wants is not held back
        for name, value in (("memory", asked.memory), ("ephemeral-storage", asked.ephemeral_storage)):
            if value:
                requests[name] = limits[name] = value
        limits |= {name: canonical_count(amount) for name, amount in self.gpus(job).items()}
        return {"requests": requests, "limits": limits} if requests else {"limits": limits}

    def gpus(self, job: Job) -> dict[str, int]:
        """What each worker asks for of which extended resource."""
        demand = job.spec.demand
        place = next(iter(self.places(job)), None)
        profile = job.spec.gpu_requirements.mig_profile
        otherwise = f"nvidia.com/mig-{profile.replace('+', '.')}" if profile else "nvidia.com/gpu"
        resource = place.resource if place is not None else otherwise
        if demand.pool.kind == "shared":
            # A turn of the card, and the budget in MiB.
            return {resource: 1, self._settings.resource: demand.worker_amount}
        return {resource: demand.worker_amount}

    def _terms(self, job: Job) -> Iterator[list[dict[str, Any]]]:
        """One for each kind of node that may run it: any of them will do."""
        capacity = _capacity(job) if self._settings.offers_spot else []
        for place in self.places(job):
            only_spot = place.selector.get(names.CAPACITY_TYPE_LABEL) == SPOT
            if not place.offers_spot if job.capacity == SPOT else only_spot:
                continue
            wanted = [
                {"key": key, "operator": "In", "values": [value]} for key, value in sorted(place.selector.items())
            ]
            yield wanted + capacity
        if not self._settings.places:
            yield capacity

    def _tolerations(self, job: Job) -> list[dict[str, Any]]:
        found = [_GPU_TAINTED, *([_SPOT_TAINTED] if job.capacity == SPOT else [])]
        for place in self.places(job):
            found += [dict(one) for one in place.tolerations if dict(one) not in found]
        return found


def group_name(job: Job) -> str:
    """Of its next attempt: the last one's may still be on its way out."""
    return f"{job.job_id}-{job.attempt_count + 1}"


def is_tolerated(taint: Mapping[str, str], place: Place) -> bool:
    """Whether pods of jobs go to such a node of a place, or stay there."""
    if taint.get("effect") == "PreferNoSchedule":
        return True
    for one in (_GPU_TAINTED, _SPOT_TAINTED, *place.tolerations):
        covers = one.get("key") in (None, taint["key"]) and one.get("effect") in (None, "", taint.get("effect"))
        if covers and (one.get("operator") == "Exists" or one.get("value", "") == taint.get("value", "")):
            return True
    return False


def _affinity(terms: list[list[dict[str, Any]]]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _capacity(job: Job) -> list[dict[str, Any]]:
    """A machine without the label is nobody's spot machine."""
    operator = "In" if job.capacity == SPOT else "NotIn"
    return [{"key": names.CAPACITY_TYPE_LABEL, "operator": operator, "values": [SPOT]}]


def _told(job: Job, attempt: int) -> Mapping[str, str]:
    """What the job is told about itself."""
    hook = job.spec.checkpoint
    own = {
        names.ENV_JOB_ID: job.job_id,
        names.ENV_JOB_ATTEMPT: str(attempt),
        names.ENV_JOB_WORKERS: str(job.spec.workers),
        names.ENV_JOB_CAPACITY: job.capacity,
    }
    return {**own, **({names.ENV_JOB_CHECKPOINT: checkpoint_text(hook)} if hook else {})}


def checkpoint_text(hook: Checkpoint) -> str:
    """How and how often a job is asked to save its state: `SIGUSR1 every 900 s`."""
    how = hook.signal or f"POST :{hook.http_port}{hook.http_path}"
    return f"{how} every {hook.interval_seconds} s"
