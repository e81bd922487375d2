"""Stand-in for a cluster and its queue: an engine whose objects are files, so that they outlive its process.

It counts what is made, and never lets anybody go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from helpers.domain.errors import ClusterError, NotFound
from helpers.domain.jobs.gpus import CardKind, Pool
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Capability, JobObservation, Phase
from helpers.domain.jobs.ordering import Waiting, ordered
from helpers.ports.job_engine import QueueFacts

_HELD = JobObservation(Phase.HELD)


class FolderEngine:
    """`ports.job_engine.JobEngine`: a file for each job in `objects`, and in `made` a line for each that was made."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._made = folder / "made"

    def capabilities(self) -> frozenset[Capability]:
        """All that an order can have."""
        return frozenset({Capability.FIFO, Capability.PRIORITY, Capability.FAIR_SHARE, Capability.GANG})

    def ensure(self, job: Job) -> None:
        """Makes the file, where it is not there."""
        try:
            with (self._objects / job.job_id).open("x"):
                pass
        except FileExistsError:
            return
        except OSError as error:
            raise ClusterError(str(error)) from error
        with self._made.open("a", encoding="utf-8") as file:
            file.write(f"{job.job_id}\n")

    def lacks_room(self, job: Job) -> str:  # noqa: ARG002 - the port's signature
        """There is no node to look at."""
        return ""

    def offers(self, job: Job) -> bool:  # noqa: ARG002 - the port's signature
        """Who knows."""
        return True

    def let_go(self, job: Job, reason: str) -> None:
        """Nobody goes."""

    def hold(self, job: Job) -> None:
        """Everybody is held."""

    def remove(self, job: Job) -> None:
        """Removes the file."""
        (self._objects / job.job_id).unlink(missing_ok=True)

    def observe(self) -> Mapping[str, JobObservation]:
        """Every file is a job that is held."""
        return {path.name: _HELD for path in self._objects.iterdir()}

    def lets_go_itself(self) -> bool:
        """It does not."""
        return False

    def order(self, facts: QueueFacts) -> Sequence[Waiting]:
        """The project's own."""
        return ordered(facts.waiting, facts.holding, facts.capacity, facts.rules, facts.now_at)

    def capacity(self) -> Mapping[Pool, int]:
        """No cards."""
        return {}

    def machines(self) -> Mapping[CardKind, int]:
        """No nodes."""
        return {}

    def logs(self, job: Job, *, tail_lines: int, worker: int) -> str:  # noqa: ARG002 - the port's signature
        """None."""
        raise NotFound(f"{job.job_id} never ran")

    def ask_checkpoint(self, job: Job) -> datetime | None:  # noqa: ARG002 - the port's signature
        """Nobody runs."""
        return None
