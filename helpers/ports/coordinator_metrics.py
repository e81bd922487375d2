"""What the coordinator counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from helpers.domain.lanes.decision import LaneVerdict


class CoordinatorMetrics(Protocol):
    """Lanes, acts, fallback."""

    def leads(self, leads: bool) -> None:
        """Whether this process may act."""
        ...

    def lanes(self, verdicts: Sequence[LaneVerdict], paused_seconds: Mapping[str, float]) -> None:
        """Every lane as the pass saw it; `{lane: seconds}` since when one is closed with jobs waiting."""
        ...

    def demands(self, demands: Mapping[str, int]) -> None:
        """`{lane: jobs}` that run or would; a lane that was not read is absent, and its series goes."""
        ...

    def stands_by(self) -> None:
        """This process leads no more: what it saw of the lanes is history, and must not look like now."""
        ...

    def acted(self, lane: str, act: str, outcome: str) -> None:
        """One pause, resume, forget or refusal; outcome `done`, `failed` or `dry_run`."""
        ...

    def reacted(self, seconds: float) -> None:
        """From a realtime job's start, as Redis dated it, to the last pause that it caused."""
        ...

    def engines(self, away: Mapping[str, bool]) -> None:
        """`{tenant: whether the fallback is active}`."""
        ...

    def unloaded(self, tenant: str, outcome: str) -> None:
        """One model: `freed`, `overdue`, `refused`, `dry_run`."""
        ...

    def asked_to_yield(self, lane: str, outcome: str) -> None:
        """One burst in which the lane's tenant was asked: `yielded`, `no_effect`, `failed`, `dry_run`."""
        ...

    def passed(self, at_seconds: float, answered: bool) -> None:
        """One pass ended; whether Redis answered. `at_seconds`: since the epoch."""
        ...
