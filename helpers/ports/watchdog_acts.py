"""Where the watchdog's acts are kept, so that a cool-down and a cap survive the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helpers.domain.watchdog.facts import ActRecord


class ActStore(Protocol):
    """The acts of the leader and of those before it.

    A write succeeds only for the process that leads at that very moment: whoever was overtaken
    cannot announce an act any more, and an act that was not announced is not begun.
    """

    @property
    def capacity_count(self) -> int:
        """How many records fit."""
        ...

    def load(self) -> tuple[ActRecord, ...]:
        """All records.

        Raises:
            ClusterError: they cannot be read now.
            InputError: what is there is no list of acts; the message says where and how to mend it.
        """
        ...

    def save(self, records: Sequence[ActRecord]) -> None:
        """Replaces all records.

        Raises:
            Conflict: another process leads.
            ClusterError: nothing was written, or nobody knows.
        """
        ...
