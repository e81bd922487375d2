"""Running a command in a container that runs already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from helpers.ports.cluster import ObjectRef


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """A command that ended by itself. `output` is the beginning of what it wrote, both streams as they came."""

    exit_status: int
    output: str


class PodCommands(Protocol):
    """Commands in the cluster's containers."""

    def run(self, pod: ObjectRef, container: str, command: Sequence[str], timeout_seconds: float) -> CommandEnded:
        """Runs `command` without a shell and waits for its end.

        Raises:
            ClusterError: the API or the node refused, the program could not be started, or it did not
                end in time (it may then still be running: nothing can stop it from outside).
        """
        ...
