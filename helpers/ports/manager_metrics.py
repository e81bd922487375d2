"""What is counted about GPU jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from helpers.domain.jobs.gpus import CardKind
from helpers.domain.jobs.limits import Sample


class ManagerMetrics(Protocol):
    """One process's own figures; the leader's alone move but for `answered`."""

    def leads(self, leads: bool) -> None:
        """Whether this process runs the loops."""
        ...

    def queue(self, counts: Mapping[tuple[str, str], int], outbox_count: int) -> None:
        """`{(project, status): jobs}` of all that is not over, and acts that are not done yet."""
        ...

    def reached(self, project_id: str, status: str) -> None:
        """A job reached a state."""
        ...

    def acted(self, act: str) -> None:
        """The engine did something to a job's objects: made, let_go, held, removed, checkpoint_asked."""
        ...

    def waited(self, priority: str, seconds: float) -> None:
        """A job was let go after so long."""
        ...

    def started(self, seconds: float) -> None:
        """A job got its GPUs so long after it was let go."""
        ...

    def recovered(self, project_id: str, status: str) -> None:
        """A job that had lost its place before completed, or failed."""
        ...

    def cards(self, held: Mapping[CardKind, float], there: Mapping[CardKind, int]) -> None:
        """Cards that jobs hold, and cards on nodes, by kind of card and capacity type."""
        ...

    def prices(self, usd_per_hour: Mapping[CardKind, Decimal]) -> None:
        """What one card of each kind costs an hour now; what has no price is missing."""
        ...

    def waiting(self, longest_seconds: Mapping[str, float]) -> None:
        """`{project: how long its oldest waiting job has waited}`; a project that is missing has none that waits."""
        ...

    def spent(self, spent_usd: Mapping[str, Decimal]) -> None:
        """`{project: what it has spent this month}`."""
        ...

    def alerted(self, channel: str, outcome: str) -> None:
        """A message about a budget: delivered, failed, dry_run."""
        ...

    def alerts_failing(self, channels: frozenset[str]) -> None:
        """By which channels a message is due that could not be delivered at the last look."""
        ...

    def unread(self, projects: Collection[str]) -> None:
        """Projects whose objects the cluster does not let the manager read."""
        ...

    def turned(self, at_seconds: float, failed_count: int) -> None:
        """A turn ended; so many jobs could not be dealt with. `at_seconds`: since the epoch."""
        ...

    def answered(self, route: str, code: int, seconds: float) -> None:
        """A request was answered."""
        ...


class JobUtilisation(Protocol):
    """What jobs do with their GPUs, as it was measured."""

    def samples(self, workers: Mapping[str, int]) -> Mapping[str, Sequence[Sample]]:
        """`{job_id: samples, oldest first}` of the jobs in `workers`, `{job_id: how many it has}`.

        A job that nobody measured is missing; an instant at which a worker was not measured is unknown.
        """
        ...
