"""What all engines share: a Job for each attempt, watched; they differ in who lets it go.

Every act is one request that may be done twice:

- made: a create. Apply would do for what is not there, but on a Job that somebody let go meanwhile
  (the leader before this one) it would set `suspend` again and end its pods.
- let go: `suspend: false` on the Job with the uid that was seen.
- held for another attempt: the old Job is deleted by its uid, and the next one made, which says `attempt: n`.
- removed: deleted by its uid, with its pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from helpers.adapters.job_engines.cards import CONTROLLER_UID, Cards, trimmed_node
from helpers.adapters.job_engines.checkpoints import Askings, CheckpointHooks
from helpers.adapters.job_engines.documents import API_VERSION, KIND, JobDocuments
from helpers.adapters.job_engines.observing import disruption_of, observed, trimmed_job, trimmed_pod, unmade_count
from helpers.adapters.job_engines.watched import Wanted, WatchedObjects, by_label
from helpers.domain import names
from helpers.domain.errors import ClusterError, Conflict, NotFound
from helpers.domain.jobs.gpus import CardKind, Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.domain.jobs.ordering import Waiting, ordered
from helpers.domain.jobs.places import SPOT
from helpers.domain.jobs.room import Seats, lacking_count
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import Checkpoint
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.events import Events
from helpers.ports.job_engine import QueueFacts
from helpers.ports.log import Log
from helpers.ports.pod_commands import PodCommands
from helpers.ports.pod_logs import PodLogs

Object = Mapping[str, Any]
_INDEX = "batch.kubernetes.io/job-completion-index"


class JobCluster(Cluster, PodLogs, Protocol):
    """The API as engines need it."""


class DryRun(ClusterError):
    """The API server would do it; nothing was done."""


class JobObjects:
    """Jobs and their pods in the projects' namespaces.

    `dry_run`: every write is asked for with `dryRun: All`, and then counts as not done, so that it stays
    due: a manager that only looks leaves all that was submitted pending.
    """

    def __init__(
        self,
        settings: ManagerSettings,
        cluster: JobCluster,
        events: Events,
        clock: Clock,
        log: Log,
        *,
        commands: PodCommands | None = None,
        dry_run: bool = False,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._events = events
        self._clock = clock
        self._log = log
        self._dry_run = dry_run
        self.documents = JobDocuments(settings)
        self.cards = Cards(settings)
        self._hooks = CheckpointHooks(commands, log)
        self._askings = Askings(clock)
        selector = f"app.kubernetes.io/managed-by={names.MANAGER_COMPONENT},{names.job_label(settings.label_prefix)}"
        projects = [project.name for project in settings.projects]

        def watched(api_version: str, kind: str) -> list[Wanted]:
            return [Wanted(ObjectRef(api_version, kind, "", project), selector) for project in projects]

        self.jobs = WatchedObjects(cluster, watched(API_VERSION, KIND), trimmed_job, clock, log)
        self.pods = WatchedObjects(cluster, watched("v1", "Pod"), self._pod, clock, log)
        # `{Job's uid: why a pod of it lost its place}`: the Job says that it did, and its pods, which say why, go.
        self._disruptions: dict[str, str] = {}
        self.nodes = WatchedObjects(cluster, [Wanted(ObjectRef("v1", "Node"))], trimmed_node, clock, log)

    def make(self, document: Manifest) -> bool:
        """Creates an object; False: one of its name is there already."""
        try:
            made = self._cluster.create(document, field_manager=names.MANAGER_COMPONENT, dry_run=self._dry_run)
        except Conflict:
            return False
        self._only_looked(f"make {document['kind']} {document['metadata']['name']}")
        if document["kind"] == KIND:
            self.jobs.put(made)
        return True

    def make_job(self, document: Manifest, job: Job) -> None:
        """Its Job is there."""
        if self.make(document):
            attempt = job.attempt_count + 1
            self._events.record(
                document, "JobHeld", f"attempt {attempt} of {job.job_id} waits for its turn, on {job.capacity} capacity"
            )

    def let_go(self, job: Job, reason: str) -> None:
        """`suspend: false` on the Job of the next attempt."""
        found = self.found(job)
        if found is None:
            raise NotFound(f"Job {job.project_id}/{job.job_id} is not there")
        if not self.is_next_attempt(found, job):
            raise Conflict(f"Job {job.project_id}/{job.job_id} is of another attempt than {job.attempt_count + 1}")
        patch = {"metadata": {"uid": found["metadata"]["uid"]}, "spec": {"suspend": False}}
        gone = self._cluster.merge_patch(
            self.ref(job), patch, field_manager=names.MANAGER_COMPONENT, dry_run=self._dry_run
        )
        self._only_looked(f"let go {job.job_id}")
        self.jobs.put(gone)
        self._events.record(found, "JobLetGo", reason)

    def remove(self, job: Job, why: str) -> None:
        """Its Job is gone, or on its way, with its pods."""
        found = self.found(job)
        if found is None:
            return
        uid = found["metadata"]["uid"]
        self._cluster.delete(self.ref(job), uid=uid, dry_run=self._dry_run, cascade=True)
        self._only_looked(f"remove {job.job_id}")
        self.jobs.drop(uid)
        self._disruptions.pop(uid, None)
        self._events.record(found, "JobRemoved", why or "its Job was removed")

    def found(self, job: Job) -> Object | None:
        """Its Job as the API server has it now."""
        return self._cluster.get(self.ref(job))

    def ref(self, job: Job) -> ObjectRef:
        """Its Job."""
        return ObjectRef(API_VERSION, KIND, job.job_id, job.project_id)

    def is_next_attempt(self, found: Object, job: Job) -> bool:
        """Whether that Job is the one that the job's next attempt has, on the capacity that it may now have."""
        said = found["metadata"].get("annotations", {})
        wanted = {"attempt": str(job.attempt_count + 1), "capacity": job.capacity}
        prefix = self._settings.label_prefix
        return all(said.get(names.job_annotation(prefix, what)) == value for what, value in wanted.items())

    def observe(self, *, queues_pods: bool = False) -> dict[str, JobObservation]:
        """`{job_id: what is seen}`. `queues_pods`: pods without a node wait in a queue."""
        jobs, pods = self.jobs.all(), by_label(self.pods.all(), CONTROLLER_UID)
        label, now_at = names.job_label(self._settings.label_prefix), self._clock.now_at()
        seen = {}
        for job in jobs:
            uid = job["metadata"]["uid"]
            mine, why = pods.get(uid, ()), self._disruptions.get(uid, "")
            found = observed(job, mine, now_at, why, queues_pods=queues_pods)
            if found.hopeless and unmade_count(job, mine, now_at):
                found = self._unmade(job, found)
            seen[job["metadata"]["labels"][label]] = found
        return seen

    def _unmade(self, job: Object, found: JobObservation) -> JobObservation:
        """Pods that the API server does not take: with its words, and whether the job may be tried again."""
        said = self._refusal_of_pods(job)
        text = f"{found.reason}: {said or 'no Event says why'}"
        if "exceeded quota" in said:
            # As with a node that is full: others may use the cards while it waits until the quota is not.
            return replace(found, phase=Phase.PREEMPTED, reason=text, hopeless=False)
        return replace(found, reason=text)

    def _refusal_of_pods(self, job: Object) -> str:
        """Of the newest Event of the Job's controller; a Job has no condition that would say it."""
        namespace, uid = job["metadata"]["namespace"], job["metadata"]["uid"]
        wanted = f"involvedObject.uid={uid},reason=FailedCreate"
        try:
            events = self._cluster.list(ObjectRef("v1", "Event", "", namespace), field_selector=wanted)
        except ClusterError as error:
            self._log.warning("events_not_read", job=job["metadata"]["name"], namespace=namespace, reason=str(error))
            return ""
        newest = max(events, key=lambda event: str(event.get("lastTimestamp") or ""), default={})
        return str(newest.get("message", ""))

    def _pod(self, pod: Manifest) -> dict[str, Any]:
        found = trimmed_pod(pod)
        if why := disruption_of(found):
            self._disruptions.setdefault(pod["metadata"].get("labels", {}).get(CONTROLLER_UID, ""), why)
        return found

    def lacks_room(self, job: Job) -> str:
        """Why its workers would not all find room; empty: they do, or the nodes are not known."""
        pool = job.spec.demand.pool
        if not self._settings.places:
            return ""
        jobs, pods, nodes = self.jobs.all(), self.pods.all(), self.nodes.all()
        wanted = Seats(job.spec.demand.worker_amount, job.spec.workers, job.capacity == SPOT)
        before = self.cards.unplaced(pool, jobs, pods)
        lacking = lacking_count(wanted, before, self.cards.rooms(pool, nodes, pods))
        if lacking == 0:
            return ""
        return (
            f"{lacking} of its {job.spec.workers} workers find no node with {wanted.amount} of {pool.name} free "
            f"on {job.capacity} capacity"
        )

    def offers(self, job: Job) -> bool:
        """Whether some node of its capacity, empty or still to be made, would hold a worker."""
        if not self._settings.places:
            return True
        one = Seats(job.spec.demand.worker_amount, 1, job.capacity == SPOT)
        return lacking_count(one, (), self.cards.rooms(job.spec.demand.pool, self.nodes.all(), ())) == 0

    def logs(self, job: Job, *, tail_lines: int, worker: int) -> str:
        """The end of a worker's output."""
        label = names.job_label(self._settings.label_prefix)
        found = self._cluster.list(ObjectRef("v1", "Pod", "", job.project_id), label_selector=f"{label}={job.job_id}")
        mine = [pod for pod in found if int(pod["metadata"].get("annotations", {}).get(_INDEX, 0)) == worker]
        if not mine:
            raise NotFound(f"no pod of worker {worker} of {job.job_id} is there")
        newest = max(mine, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        pod = ObjectRef("v1", "Pod", newest["metadata"]["name"], job.project_id)
        return self._cluster.pod_log(pod, container=names.JOB_CONTAINER, tail_lines=tail_lines)

    def ask_checkpoint(self, job: Job) -> datetime | None:
        """Has every worker told in the background; when that began, at the first look after all were told."""
        hook = job.spec.checkpoint
        if hook is None:
            return None
        if told_at := self._askings.told_at(job):
            return told_at
        if not self._askings.may_begin(job):
            return None
        found = next((one for one in self.jobs.all() if one["metadata"]["name"] == job.job_id), None)
        if found is None:
            return None
        uid = found["metadata"]["uid"]
        mine = [pod for pod in self.pods.all() if pod["metadata"]["labels"].get(CONTROLLER_UID) == uid]
        running = [pod for pod in mine if pod["status"].get("phase") == "Running"]
        self._only_looked(f"ask {job.job_id} for a checkpoint")
        if running:
            self._askings.begin(job, lambda: self._all_told(found, hook, running))
        return None

    def _all_told(self, found: Object, hook: Checkpoint, pods: Sequence[Object]) -> bool:
        if not self._hooks.ask(hook, pods):
            return False
        self._events.record(found, "JobCheckpoint", f"{len(pods)} pods were told to save their state")
        return True

    def stop(self) -> None:
        """Ends the watches, and asks nobody any more."""
        self._askings.stop()
        for one in (self.jobs, self.pods, self.nodes):
            one.stop()

    def _only_looked(self, act: str) -> None:
        if self._dry_run:
            raise DryRun(f"dry run: the API server would {act}; nothing was done")


class JobEngineBase:
    """Everything but who lets jobs go, and what hands them to a queue."""

    name = ""

    def __init__(self, settings: ManagerSettings, objects: JobObjects) -> None:
        self._settings = settings
        self._objects = objects

    def document(self, job: Job) -> dict[str, Any]:
        """The Job of the next attempt."""
        return self._objects.documents.job(job)

    def ensure(self, job: Job) -> None:
        """Makes its Job, held."""
        self._objects.make_job(self.document(job), job)

    def hold(self, job: Job) -> None:
        """Another attempt: the Job of the last one goes, and the next one is made, held."""
        found = self._objects.found(job)
        if found is not None and not self._objects.is_next_attempt(found, job):
            self._objects.remove(job, f"its place was lost; attempt {job.attempt_count + 1} waits for its turn")
        self.ensure(job)

    def remove(self, job: Job) -> None:
        """Takes its Job away."""
        self._objects.remove(job, job.reason)

    def observe(self) -> Mapping[str, JobObservation]:
        """What is seen of every job."""
        return self._objects.observe()

    def capacity(self) -> Mapping[Pool, int]:
        """What the nodes have, and would have; nothing where the estate's nodes are not known."""
        if not self._settings.places:
            return {}
        return self._objects.cards.capacity(self._objects.nodes.all())

    def machines(self) -> Mapping[CardKind, int]:
        """The cards of the nodes that are there; nothing where the estate's nodes are not known."""
        return self._objects.cards.machines(self._objects.nodes.all())

    def order(self, facts: QueueFacts) -> Sequence[Waiting]:
        """The project's own order."""
        return ordered(facts.waiting, facts.holding, facts.capacity, facts.rules, facts.now_at)

    def logs(self, job: Job, *, tail_lines: int, worker: int) -> str:
        """The end of a worker's output."""
        return self._objects.logs(job, tail_lines=tail_lines, worker=worker)

    def ask_checkpoint(self, job: Job) -> datetime | None:
        """Has its pods told to save their state; when, once they were."""
        return self._objects.ask_checkpoint(job)
