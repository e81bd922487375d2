"""What the coordinator knows when it decides, as frozen values. Absent is None here and never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import AwareDatetime, BaseModel, ConfigDict


class PauseMark(BaseModel):
    """What stands in Redis beside a queue that a coordinator paused: whose pause it is, and why.

    Written before the pause, so that no pause of ours is ever without it; `confirmed` is set once the
    pause was answered. A queue that is paused without a mark was paused by somebody else.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    queue: str
    lane: str
    holder: str
    reason: str
    since_at: AwareDatetime
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue in one snapshot of Redis.

    `wait_count` and `paused_count` are the lengths of the two lists that hold jobs which could run
    (BullMQ 4 and 5 move all of them between the two), `prioritized_count` those with a priority.
    `version` is what the application's client wrote into `meta`, `bullmq:5.81.5`; empty: nothing.
    """

    queue: str
    paused: bool = False
    wait_count: int = 0
    paused_count: int = 0
    prioritized_count: int = 0
    active_count: int = 0
    delayed_count: int = 0
    version: str = ""
    mark: PauseMark | None = None

    @property
    def waiting_count(self) -> int:
        """Jobs that would run if the queue were open and had a worker."""
        return self.wait_count + self.paused_count + self.prioritized_count

    @property
    def is_blank(self) -> bool:
        """Whether no application has left anything there yet."""
        return not (self.version or self.waiting_count or self.active_count or self.delayed_count)


@dataclass(frozen=True)
class Situation:
    """All that a pass decides on.

    Attributes:
        queues: By name; a queue that was not read is absent, and nothing is decided for it.
        now_at: The wall clock, for windows.
        now_seconds: The monotonic clock, for settling.
        busy_seconds: `{lane: monotonic seconds}` at which it was last seen busy; absent: never.
        away: `{tenant: why}` whose card or server does not answer.
        held: `{lane: why}` that may not begin yet (a model still has to leave the memory).
        measured_mib: `{model: MiB}` as its server reports them, better than what the estate says.
        leased_mib: `{tenant: {lane: MiB}}` that leases hold.
    """

    queues: Mapping[str, QueueFacts]
    now_at: AwareDatetime
    now_seconds: float
    busy_seconds: Mapping[str, float] = field(default_factory=dict)
    away: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    measured_mib: Mapping[str, int] = field(default_factory=dict)
    leased_mib: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
