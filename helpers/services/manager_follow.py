"""What the cluster shows becomes the jobs' states: also after a crash, from whatever is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from helpers.domain.jobs.change import Change, OutboxAction, step
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.observation import JobObservation, Phase, steps_to
from helpers.domain.jobs.preemption import after_preemption
from helpers.domain.jobs.states import HOLDING, JobStatus
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore, QueueRow
from helpers.ports.log import Log
from helpers.ports.manager_metrics import ManagerMetrics
from helpers.services.manager_money import Purse

# What was just let go may still be seen held: watches lag behind.
SETTLE_SECONDS = 10.0
# Objects that are away so long were deleted by somebody; a watch that begins anew takes less.
GONE_SECONDS = 30.0


_STEADY = frozenset(
    {
        (JobStatus.QUEUED, Phase.HELD),
        (JobStatus.PROVISIONING, Phase.STARTING),
        (JobStatus.RUNNING, Phase.RUNNING),
        (JobStatus.RUNNING, Phase.STARTING),
    }
)


@dataclass
class Follower:
    """Brings jobs to where the cluster has them."""

    store: JobStore
    engine: JobEngine
    purse: Purse
    clock: Clock
    log: Log
    metrics: ManagerMetrics
    spot_retries: int
    _away_since_seconds: dict[str, float] = field(default_factory=dict)
    _let_go_seconds: dict[str, float] = field(default_factory=dict)
    # Of jobs that another leader let go nothing is known, and their time to a GPU is not counted.
    _let_go_at: dict[str, datetime] = field(default_factory=dict)

    def concerns(self, row: QueueRow, seen: Mapping[str, JobObservation], unread: Collection[str] = ()) -> bool:
        """Whether there may be something to do about it; for nearly all of a long queue there is not.

        Nothing is known of jobs of an `unread` project: they are not away.
        """
        if row.project_id in unread:
            self._away_since_seconds.pop(row.job_id, None)
            return False
        found = seen.get(row.job_id)
        if found is None:
            return row.status is not JobStatus.PENDING  # the outbox makes those
        return row.job_id in self._away_since_seconds or (row.status, found.phase) not in _STEADY

    def follow(self, row: QueueRow, seen: Mapping[str, JobObservation]) -> bool:
        """Writes what has happened to one job since; whether anything has."""
        found = seen.get(row.job_id, JobObservation(Phase.ABSENT))
        if row.status is JobStatus.PREEMPTED:
            return self._retry(row)
        if found.phase is Phase.ABSENT:
            return self._absent(row)
        self._away_since_seconds.pop(row.job_id, None)
        if found.phase is Phase.HELD and row.status in HOLDING and self._settles(row):
            return False
        if not steps_to(row.status, found):
            return False
        job = self.store.job(row.job_id)
        return job is not None and self._write(job, found)

    def forget_others(self, rows: list[QueueRow]) -> None:
        """Only jobs that are not over may be away, or were just let go."""
        known = {row.job_id for row in rows}
        self._let_go_at = {k: v for k, v in self._let_go_at.items() if k in known}
        self._let_go_seconds = {k: v for k, v in self._let_go_seconds.items() if k in known}
        self._away_since_seconds = {k: v for k, v in self._away_since_seconds.items() if k in known}

    def let_go(self, job_id: str) -> None:
        """It was let go just now."""
        self._let_go_at[job_id] = self.clock.now_at()
        self._let_go_seconds[job_id] = self.clock.monotonic_seconds()

    def _settles(self, row: QueueRow) -> bool:
        let_go_seconds = self._let_go_seconds.get(row.job_id, float("-inf"))
        return self.clock.monotonic_seconds() - let_go_seconds < SETTLE_SECONDS

    def _write(self, job: Job, found: JobObservation) -> bool:
        changes: list[Change] = []
        now_at = self.clock.now_at()
        steps = steps_to(job.status, found)
        for number, status in enumerate(steps, 1):
            # What was missed on the way was reached when its pods had their GPUs, and not at the end.
            reached_at = found.at if number == len(steps) else found.bound_at or found.at
            # The cluster's clock has whole seconds, so that a thing may seem to end before it began.
            at = max(reached_at or now_at, changes[-1].at if changes else job.started_at or job.queued_at)
            outbox = OutboxAction.REMOVE if status is JobStatus.FAILED and found.hopeless else None
            reason = found.reason or f"seen {found.phase}"
            change = self.purse.billed(step(job, status, min(at, now_at), reason, outbox=outbox))
            if status is JobStatus.PREEMPTED:
                change = self._interrupted(change)
            changes.append(change)
            job = change.new
        if not self.store.apply(changes):
            return False  # changed meanwhile; looked at again
        for change in changes:
            self._tell(change)
        return True

    def _interrupted(self, change: Change) -> Change:
        """A preemption with what it costs and how it goes on."""
        retry = after_preemption(change.old, change.at, self.spot_retries)
        lost = f"{retry.lost_seconds:.0f} s of work are lost; {retry.reason}"
        event = replace(change.events[0], message=f"{change.events[0].message}; {lost}")
        return replace(change, new=replace(change.new, capacity=retry.capacity), events=(event,))

    def _retry(self, row: QueueRow) -> bool:
        """One that lost its place waits again, with the capacity that it may now have."""
        job = self.store.job(row.job_id)
        if job is None or job.status is not JobStatus.PREEMPTED:
            return False
        self.engine.hold(job)
        self.metrics.acted("held")
        change = step(job, JobStatus.QUEUED, self.clock.now_at(), f"it waits again, for {job.capacity} capacity")
        if not self.store.apply([change]):
            return False
        self._tell(change)
        return True

    def _absent(self, row: QueueRow) -> bool:
        """Its objects are not there."""
        if row.status is JobStatus.PENDING:
            return False  # the outbox makes them
        now_seconds = self.clock.monotonic_seconds()
        since_seconds = self._away_since_seconds.setdefault(row.job_id, now_seconds)
        if now_seconds - since_seconds < GONE_SECONDS:
            return False
        job = self.store.job(row.job_id)
        if job is None or job.is_final:
            return False
        if job.status in HOLDING:
            reason = "somebody deleted its objects in the cluster"
            change = self.purse.billed(step(job, JobStatus.FAILED, self.clock.now_at(), reason))
            written = self.store.apply([change])
            if written:
                self._tell(change)
            return written
        # It held nothing yet, so that nothing is lost: it is not forgotten, but made again.
        self.engine.ensure(job)
        self.metrics.acted("made")
        self._away_since_seconds.pop(row.job_id, None)
        self.log.warning("job_made_again", job_id=job.job_id, namespace=job.project_id, status=job.status.value)
        return False

    def _tell(self, change: Change) -> None:
        job = change.new
        self.metrics.reached(job.project_id, job.status.value)
        if job.status in (JobStatus.COMPLETED, JobStatus.FAILED) and job.attempt_count > 1:
            self.metrics.recovered(job.project_id, job.status.value)
        if job.status is JobStatus.RUNNING and (let_go_at := self._let_go_at.pop(job.job_id, None)) is not None:
            self.metrics.started(max(0.0, (change.at - let_go_at).total_seconds()))
        self.log.info(
            "job_moved", job_id=job.job_id, namespace=job.project_id, status=job.status.value, reason=job.reason
        )


def note(job: Job, at: datetime, kind: str, message: str, actor: str, **changes: object) -> Change:
    """An entry in the history that moves the job nowhere. `changes`: fields of the job that it sets."""
    new = replace(job, version=job.version + 1, **changes)  # type: ignore[arg-type] # each is a field's, with its type
    return Change(job, new, at, (JobEvent(job.job_id, at, kind, message, actor),))
