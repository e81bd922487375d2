"""An engine without a cluster: it remembers what was made, and jobs run when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from helpers.domain.errors import NotFound
from helpers.domain.jobs.gpus import CardKind, Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability, JobObservation, Phase
from helpers.domain.jobs.ordering import Waiting, ordered
from helpers.ports.job_engine import QueueFacts
from tests.fakes.jobs import A100

OWN_ORDER = frozenset(
    {Capability.FIFO, Capability.PRIORITY, Capability.FAIR_SHARE, Capability.GANG, Capability.PREEMPTION}
)


class FakeEngine:
    """`calls`: what was asked for, in order. `broken`, `refuses`: errors to raise. `before`: runs before each act."""

    name = "fake"

    def __init__(self, pools: Mapping[Pool, int] | None = None) -> None:
        self.cards: dict[CardKind, int] = {}
        self.pools = dict(pools) if pools is not None else {A100: 8}
        self.can = OWN_ORDER
        self.itself = False
        self.jobs: dict[str, JobObservation] = {}
        self.capacities: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.broken: dict[str, Exception] = {}
        self.before: Callable[[str, Job], None] = lambda _act, _job: None
        self.told_at: Callable[[], datetime | None] = lambda: None
        self.without_capacity: set[str] = set()
        self.without_room: dict[str, str] = {}

    def capabilities(self) -> frozenset[Capability]:
        return self.can

    def ensure(self, job: Job) -> None:
        self._act("ensure", job)
        self.jobs.setdefault(job.job_id, JobObservation(Phase.HELD))

    def lacks_room(self, job: Job) -> str:
        return self.without_room.get(job.job_id, "")

    def offers(self, job: Job) -> bool:
        return job.capacity not in self.without_capacity

    def let_go(self, job: Job, reason: str) -> None:
        self._act("let_go", job)
        self.jobs[job.job_id] = JobObservation(Phase.STARTING)

    def hold(self, job: Job) -> None:
        self._act("hold", job)
        self.capacities[job.job_id] = job.capacity
        self.jobs[job.job_id] = JobObservation(Phase.HELD)

    def remove(self, job: Job) -> None:
        self._act("remove", job)
        self.jobs.pop(job.job_id, None)

    def observe(self) -> Mapping[str, JobObservation]:
        self._fail("observe")
        return dict(self.jobs)

    def lets_go_itself(self) -> bool:
        return self.itself

    def order(self, facts: QueueFacts) -> Sequence[Waiting]:
        return ordered(facts.waiting, facts.holding, facts.capacity, facts.rules, facts.now_at)

    def capacity(self) -> Mapping[Pool, int]:
        self._fail("capacity")
        return dict(self.pools)

    def machines(self) -> Mapping[CardKind, int]:
        self._fail("machines")
        return dict(self.cards)

    def logs(self, job: Job, *, tail_lines: int, worker: int) -> str:
        self._fail("logs")
        if job.job_id not in self.jobs:
            raise NotFound(f"no pod of {job.job_id} is there")
        return f"worker {worker}: the last {tail_lines} lines\n"

    def ask_checkpoint(self, job: Job) -> datetime | None:
        self._act("checkpoint", job)
        return self.told_at()

    def see(self, job_id: str, phase: Phase, reason: str = "") -> None:
        """The cluster now shows this of the job."""
        self.jobs[job_id] = JobObservation(phase, reason)

    def done(self, act: str) -> list[str]:
        """The jobs with which that was done."""
        return [job_id for each, job_id in self.calls if each == act]

    def _act(self, act: str, job: Job) -> None:
        self.before(act, job)
        self._fail(act)
        self.calls.append((act, job.job_id))

    def _fail(self, act: str) -> None:
        if act in self.broken:
            raise self.broken[act]
