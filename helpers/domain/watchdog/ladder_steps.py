"""What the ladder commands, and what the service observes in answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.facts import Outcome


@dataclass(frozen=True, slots=True)
class CallHook:
    """Ask the tenant; answer with HookAnswered within `timeout_seconds`."""

    hook: ReleaseHook
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Measure:
    """Answer with Measured from a sample newer than `newer_than`; with Elapsed where there is none yet."""

    newer_than: datetime


@dataclass(frozen=True, slots=True)
class Revalidate:
    """Answer with Revalidated: `recycling.revalidate` on fresh facts."""


@dataclass(frozen=True, slots=True)
class Evict:
    """POST pods/eviction with the uid as precondition; answer with Answered."""

    uid: str


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE the pod with the uid as precondition; answer with Answered."""

    uid: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer with Elapsed after `seconds`, or earlier with Gone."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The act is over. `freed_mib` is the sum over its steps, None where nobody measured it."""

    outcome: Outcome
    freed_mib: int | None
    text: str


Command = CallHook | Measure | Revalidate | Evict | Delete | Wait | Finish


@dataclass(frozen=True, slots=True)
class HookAnswered:
    """`ok` False: it failed, refused or timed out; `text` says how."""

    ok: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """The card and the victim on it, from a believable sample; None where that is unknown."""

    sampled_at: datetime
    free_mib: int | None
    victim_used_mib: int | None


@dataclass(frozen=True, slots=True)
class Revalidated:
    """Whether the decision still stands; `text` says why not."""

    valid: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the API said to Evict or Delete.

    accepted: the pod terminates. blocked: 429, a PodDisruptionBudget says not now. gone: 404, or
    409 because the name is another pod's by now. failed: anything else, timeouts included.
    """

    answer: Literal["accepted", "blocked", "gone", "failed"]
    text: str = ""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The API does not list the pod's uid any more."""


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time passed and nothing else happened."""


Observation = HookAnswered | Measured | Revalidated | Answered | Gone | Elapsed
