"""What was committed becomes objects in the cluster. The leader's; everything may be done twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from helpers.domain.errors import ClusterError, DependencyError, Forbidden, NotFound, Rejected
from helpers.domain.jobs.change import MANAGER_ACTOR, Change, OutboxAction, OutboxRow, step
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.states import JobStatus
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore
from helpers.ports.log import Log
from helpers.ports.manager_metrics import ManagerMetrics
from helpers.services.manager_follow import note

BATCH_COUNT = 100
LONGEST_WAIT_SECONDS = 300


class OutboxDrain:
    """Takes the committed acts in their order."""

    def __init__(self, store: JobStore, engine: JobEngine, clock: Clock, log: Log, metrics: ManagerMetrics) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._log = log
        self._metrics = metrics

    def drain(self, may_act: Callable[[], bool]) -> tuple[int, int]:
        """Does what is due, one batch; (how much was done, how much has to be tried again).

        `may_act`: asked before each act: whoever stops leading stops acting.
        """
        due = self._store.due(self._clock.now_at(), BATCH_COUNT)
        found = self._store.jobs([row.job_id for row in due]) if due else {}
        done_count = failed_count = 0
        queued: list[tuple[Change, OutboxRow]] = []
        for row in due:
            if not may_act():
                break
            try:
                change = self._one(row, found.get(row.job_id))
            except Rejected as error:
                self._refused(row, error)
            except ClusterError as error:
                self._say_why(row, found.get(row.job_id), error)
                self._later(row, error)
                failed_count += 1
                continue
            else:
                if change is not None:
                    queued.append((change, row))
            done_count += 1
        self._record(queued)
        return done_count, failed_count

    def _one(self, row: OutboxRow, job: Job | None) -> Change | None:
        """Does it; the step that is to be recorded with it. All steps of a batch are recorded together.

        Whoever is stopped before that does the same once more, which changes nothing.
        """
        if job is None:
            raise DependencyError(f"the outbox names job {row.job_id}, which the database does not have")
        if row.action is OutboxAction.REMOVE:
            self._engine.remove(job)
            self._metrics.acted("removed")
            self._store.done(row)
            return None
        if job.is_final:
            self._store.done(row)  # cancelled before anything was made
            return None
        self._engine.ensure(job)
        self._metrics.acted("made")
        if job.status is not JobStatus.PENDING:
            self._store.done(row)  # made before: whoever did it was stopped before it could say so
            return None
        return step(job, JobStatus.QUEUED, self._clock.now_at(), f"its objects are there, held ({self._engine.name})")

    def _record(self, queued: list[tuple[Change, OutboxRow]]) -> None:
        if not queued:
            return
        written = self._store.queued(queued)
        for change, _ in queued:
            job = change.new
            # Else it was cancelled meanwhile: the row is looked at again, and then the one that removes it.
            if job.job_id in written:
                self._metrics.reached(job.project_id, JobStatus.QUEUED.value)
                self._log.info("job_queued", job_id=job.job_id, namespace=job.project_id)

    def _refused(self, row: OutboxRow, error: Rejected) -> None:
        """The API server says no for good, so that another try cannot help."""
        job = self._store.job(row.job_id)
        self._log.warning("job_refused", job_id=row.job_id, action=row.action.value, reason=str(error))
        if job is None or row.action is OutboxAction.REMOVE or job.status is not JobStatus.PENDING:
            self._store.done(row)
            return
        change = step(job, JobStatus.FAILED, self._clock.now_at(), f"the cluster refused it: {error}")
        if self._store.apply([change], done=row):
            self._metrics.reached(job.project_id, JobStatus.FAILED.value)

    def _say_why(self, row: OutboxRow, job: Job | None, error: ClusterError) -> None:
        """What a person must mend in the cluster (a policy, a quota, a namespace) stands on the job, each text once.

        An API server that does not answer says nothing about the job.
        """
        if not isinstance(error, Forbidden | NotFound) or row.action is not OutboxAction.SUBMIT:
            return
        text = f"the cluster does not take it yet, and is asked again: {error}"
        if job is None or job.status is not JobStatus.PENDING or job.reason == text:
            return
        # Changed meanwhile, it is left as it is: the next try says it again.
        self._store.apply([note(job, self._clock.now_at(), "warning", text, MANAGER_ACTOR, reason=text)])

    def _later(self, row: OutboxRow, error: ClusterError) -> None:
        wait_seconds = min(LONGEST_WAIT_SECONDS, 2**row.tries_count)
        self._log.warning(
            "outbox_not_done", job_id=row.job_id, action=row.action.value, tries_count=row.tries_count + 1,
            retry_seconds=wait_seconds, reason=str(error),
        )  # fmt: skip
        self._store.try_again(row, self._clock.now_at() + timedelta(seconds=wait_seconds), str(error))
