"""The leader's turns: the outbox, what the cluster shows, whose turn it is, and what has reached a limit."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from helpers.domain.errors import DependencyError
from helpers.domain.jobs.change import MANAGER_ACTOR, OutboxAction, step
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.limits import Sample, Stop, check_limits
from helpers.domain.jobs.observation import LIVE, JobObservation
from helpers.domain.jobs.ordering import Go, anybody_fits, decide
from helpers.domain.jobs.preemption import checkpoint_due
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.states import HOLDING, JobStatus
from helpers.ports.clock import Clock
from helpers.ports.job_engine import JobEngine, QueueFacts
from helpers.ports.job_store import JobStore, QueueRow
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.manager_metrics import JobUtilisation, ManagerMetrics
from helpers.services.manager_follow import Follower, note
from helpers.services.manager_money import Purse
from helpers.services.manager_outbox import BATCH_COUNT, OutboxDrain
from helpers.services.manager_queue import holding_of, waiting_of

TURN_SECONDS = 1.0
# A turn over thousands of jobs may take at most this part of a core: requests wait for the same interpreter.
_TURN_SHARE = 0.03
OUTBOX_SECONDS = 0.25


@dataclass(frozen=True)
class ManagerPorts:
    """What the loop works with. `utilisation` None: nobody measures, so nothing is idle."""

    store: JobStore
    engine: JobEngine
    leadership: Leadership
    metrics: ManagerMetrics
    clock: Clock
    log: Log
    utilisation: JobUtilisation | None = None


class ManagerLoop:
    """Turns while this process leads."""

    def __init__(self, ports: ManagerPorts, settings: ManagerSettings, purse: Purse, stop: Callable[[], bool]) -> None:
        self._ports = ports
        self._settings = settings
        self._purse = purse
        self._stop = stop
        self._rules = settings.rules()
        self._limits = settings.limits()
        self._failed_count = 0
        self._said: dict[str, str] = {}
        self._unread: set[str] = set()
        self._outside_seconds = 0.0
        one = ports
        self._outbox = OutboxDrain(one.store, one.engine, one.clock, one.log, one.metrics)
        self._follower = Follower(one.store, one.engine, purse, one.clock, one.log, one.metrics, settings.spot_retries)

    def run(self) -> None:
        """Until it is told to stop. The outbox is looked at more often than the whole queue, which may be long."""
        next_seconds = self._ports.clock.monotonic_seconds()
        while not self._stop():
            leads = self._ports.leadership.leads()
            self._ports.metrics.leads(leads)
            is_more_due = False
            if leads:
                try:
                    is_more_due = self.drain()
                    began_seconds = self._ports.clock.monotonic_seconds()
                    if began_seconds >= next_seconds:
                        self.follow()
                        took_seconds = self._ports.clock.monotonic_seconds() - began_seconds - self._outside_seconds
                        next_seconds = began_seconds + max(TURN_SECONDS, took_seconds / _TURN_SHARE)
                except DependencyError as error:
                    self._ports.log.warning("turn_failed", reason=str(error))
            elif self._unread:  # who does not lead does not know; the leader's figure is the one
                self._unread = set()
                self._ports.metrics.unread(())
            if not is_more_due:
                self._ports.clock.sleep_seconds(OUTBOX_SECONDS)

    def turn(self) -> None:
        """Both parts, once.

        Raises:
            DependencyError: the database or the cluster does not answer; the next turn goes on from there.
        """
        self.drain()
        self.follow()

    def drain(self) -> bool:
        """What was committed becomes objects; whether more is due at once."""
        done_count, self._failed_count = self._outbox.drain(self._may_act)
        return done_count == BATCH_COUNT

    def follow(self) -> None:
        """What the cluster shows becomes states; whose turn it is goes; what has reached a limit is stopped."""
        self._outside_seconds = 0.0
        rows = list(self._ports.store.queue())
        with self._outside():
            seen = self._ports.engine.observe()
        unread = self._ports.engine.unread()
        self._say_unread(unread)
        self._follower.forget_others(rows)
        news = [row for row in rows if self._follower.concerns(row, seen, unread)]
        moved = [row for row in news if self._safely(row.job_id, partial(self._follower.follow, row, seen))]
        if moved:
            rows = list(self._ports.store.queue())
        if not self._ports.engine.lets_go_itself():
            self._let_go(rows, seen)
        self._guard([row for row in rows if row.status in HOLDING])
        self._sweep(rows, seen)
        self._ports.metrics.queue(
            Counter((row.project_id, row.status.value) for row in rows), self._ports.store.outbox_count()
        )
        self._ports.metrics.turned(self._ports.clock.now_at().timestamp(), self._failed_count)

    def _say_unread(self, unread: Mapping[str, str]) -> None:
        """Once, and not each second: their jobs stay as they are until they can be read again."""
        for project in sorted(unread.keys() - self._unread):
            self._ports.log.warning("project_not_read", namespace=project, reason=unread[project])
        for project in sorted(self._unread - unread.keys()):
            self._ports.log.info("project_read_again", namespace=project)
        self._unread = set(unread)
        self._ports.metrics.unread(unread)

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        """What the cluster and the database take is nobody's processor: a turn that let many go is not a long one."""
        began_seconds = self._ports.clock.monotonic_seconds()
        try:
            yield
        finally:
            self._outside_seconds += self._ports.clock.monotonic_seconds() - began_seconds

    def _may_act(self) -> bool:
        return not self._stop() and self._ports.leadership.leads()

    def _safely(self, job_id: str, act: Callable[[], bool]) -> bool:
        """One job that cannot be dealt with must not keep the others back."""
        if not self._may_act():
            return False
        try:
            with self._outside():
                return act()
        except DependencyError as error:
            self._ports.log.warning("job_not_followed", job_id=job_id, reason=str(error))
            return False

    def _let_go(self, rows: Sequence[QueueRow], seen: Mapping[str, JobObservation]) -> None:
        """Lets those go whose turn it is. Only what is held in the cluster has a turn."""
        now_at = self._ports.clock.now_at()
        hours = self._settings.max_duration_hours
        waiting = [waiting_of(row, hours) for row in rows if row.status is JobStatus.QUEUED and row.job_id in seen]
        if not waiting:
            return
        holding = [holding_of(row, hours, now_at) for row in rows if row.status in HOLDING]
        capacity = self._ports.engine.capacity()
        rooms = self._ports.engine.rooms()
        if not anybody_fits(waiting, holding, capacity, rooms):
            return  # an order of thousands is not made for nobody
        order = self._ports.engine.order(QueueFacts(waiting, holding, capacity, self._rules, now_at=now_at))
        for job, answer in zip(order, decide(order, holding, capacity, self._rules, now_at, rooms), strict=True):
            if isinstance(answer, Go):
                self._safely(answer.job_id, partial(self._go, answer))
            elif answer.lacks_room and self._said.get(job.job_id) != answer.reason:  # once, and not each second
                self._said[job.job_id] = answer.reason
                reason = answer.reason
                self._ports.log.info("job_lacks_room", job_id=job.job_id, namespace=job.project_id, reason=reason)

    def _go(self, go: Go) -> bool:
        job = self._ports.store.job(go.job_id)
        if job is None or job.status is not JobStatus.QUEUED:
            return False
        if go.on_demand:
            return self._on_demand(job)
        # First the act, then the record: what was let go and not recorded is seen at the next turn; the
        # other way round it would be recorded as running, seen held, and counted as interrupted.
        self._ports.engine.let_go(job, go.reason, go.avoids)
        self._ports.metrics.acted("let_go")
        self._follower.let_go(job.job_id)
        now_at = self._ports.clock.now_at()
        change = step(job, JobStatus.PROVISIONING, now_at, go.reason)
        if not self._ports.store.apply([change]):
            return False
        self._ports.metrics.reached(job.project_id, JobStatus.PROVISIONING.value)
        self._ports.metrics.waited(job.spec.priority.value, (now_at - job.queued_at).total_seconds())
        self._ports.log.info("job_let_go", job_id=job.job_id, namespace=job.project_id, reason=go.reason)
        return True

    def _on_demand(self, job: Job) -> bool:
        """It may be interrupted and need not: no spot machine could hold it. It goes at the next turn."""
        text = f"there is no spot capacity of {job.spec.demand.pool.name}, so it goes on with on-demand"
        change = note(job, self._ports.clock.now_at(), "capacity", text, MANAGER_ACTOR, capacity="on-demand")
        return self._ports.store.apply([change])

    def _sweep(self, rows: Sequence[QueueRow], seen: Mapping[str, JobObservation]) -> None:
        """Objects that would run on though their job is over.

        A leader that was held up in the middle of an act may make them after the next one has removed them.
        """
        known = {row.job_id for row in rows}
        strays = [job_id for job_id, found in seen.items() if found.phase in LIVE and job_id not in known]
        found_jobs = self._ports.store.jobs(strays) if strays else {}
        for job_id, job in found_jobs.items():
            if job.is_final:
                self._safely(job_id, lambda job=job: self._swept(job))  # type: ignore[misc]
        for job_id in sorted(set(strays) - found_jobs.keys()):
            # Whose they are is not known (another database, an older backup), so that nobody may end them.
            if job_id not in self._said:
                self._ports.log.warning("objects_of_no_job", job_id=job_id)
            self._said[job_id] = "nobody's"
        self._said = {job_id: text for job_id, text in self._said.items() if job_id in known or job_id in seen}

    def _swept(self, job: Job) -> bool:
        self._ports.engine.remove(job)
        self._ports.metrics.acted("removed")
        self._ports.log.warning("job_swept", job_id=job.job_id, namespace=job.project_id, status=job.status.value)
        return True

    def _guard(self, rows: Sequence[QueueRow]) -> None:
        """Limits and checkpoints of the jobs that hold GPUs."""
        if not rows:
            return
        samples: Mapping[str, Sequence[Sample]] = {}
        if self._ports.utilisation is not None:
            try:
                samples = self._ports.utilisation.samples({row.job_id: row.demand.workers for row in rows})
            except DependencyError as error:
                self._ports.log.warning("utilisation_not_read", reason=str(error))
        for row in rows:
            self._safely(row.job_id, partial(self._guarded, row.job_id, samples.get(row.job_id, ())))

    def _guarded(self, job_id: str, samples: Sequence[Sample]) -> bool:
        job = self._ports.store.job(job_id)
        if job is None or job.status not in HOLDING:
            return False
        now_at = self._ports.clock.now_at()
        mine = [sample for sample in samples if job.started_at is not None and sample.at >= job.started_at]
        verdict = check_limits(job, self._purse.until(job, now_at).known_usd, mine, self._limits, now_at)
        if isinstance(verdict, Stop):
            reason = f"{verdict.limit}: {verdict.reason}"
            change = step(job, JobStatus.FAILED, now_at, reason, outbox=OutboxAction.REMOVE, audit_action="stop")
            stopped = self._ports.store.apply([self._purse.billed(change)])
            if stopped:
                self._ports.metrics.reached(job.project_id, JobStatus.FAILED.value)
                self._ports.log.info("job_stopped", job_id=job_id, namespace=job.project_id, reason=reason)
            return stopped
        for warning in verdict:
            text = f"{warning.limit}: {warning.reason}"
            warned = note(job, now_at, "warning", text, MANAGER_ACTOR, warned=(*job.warned, warning.limit.value))
            if self._ports.store.apply([warned]):
                job = warned.new
                self._ports.log.info("job_warned", job_id=job_id, namespace=job.project_id, reason=text)
        return self._checkpointed(job)

    def _checkpointed(self, job: Job) -> bool:
        now_at = self._ports.clock.now_at()
        if not checkpoint_due(job, now_at):
            return False
        told_at = self._ports.engine.ask_checkpoint(job)
        if told_at is None:
            return False
        self._ports.metrics.acted("checkpoint_asked")
        told = note(job, now_at, "checkpoint", "it was told to save its state", MANAGER_ACTOR, checkpoint_at=told_at)
        return self._ports.store.apply([told])
