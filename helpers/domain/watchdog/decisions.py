"""What the watchdog may decide about one card, as frozen values with their numbers and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from helpers.domain.watchdog.facts import PodFacts


class Reason(StrEnum):
    """Why; the stable word in logs, metrics and Events."""

    ENOUGH_FREE = "enough_free"
    OFFENDER = "largest_overshoot"
    UNKNOWN = "sample_unknown"
    STALE = "sample_stale"
    FUTURE = "sample_from_the_future"
    NOT_CONFIRMED = "not_confirmed"
    NOT_MEASURED_SINCE = "not_measured_since_last_act"
    ACT_UNDER_WAY = "act_under_way"
    ON_ITS_WAY_BACK = "memory_on_its_way_back"
    COOLDOWN = "cooldown"
    TENANT_CAP = "tenant_cap_reached"
    OVERALL_CAP = "overall_cap_reached"
    PROTECTED = "protected"
    SYSTEM_CRITICAL = "system_critical"
    BARE_POD = "bare_or_static_pod"
    DAEMON_SET = "daemon_set_pod"
    UNBUDGETED = "unbudgeted"
    BUDGET_UNREADABLE = "budget_unreadable"
    UNATTRIBUTED = "unattributed_memory"
    NO_OFFENDER = "no_offender_within_the_rules"


@dataclass(frozen=True, slots=True)
class CardState:
    """The card as it was decided on. None where the sample does not say.

    `deficit_mib` is floor minus free, at least 0. `returning_mib` is held by pods that are
    terminating or gone already.
    """

    node: str
    gpu: str
    uuid: str
    sampled_at: datetime
    floor_mib: int
    free_mib: int | None = None
    returning_mib: int = 0
    unattributed_mib: int | None = None

    @property
    def deficit_mib(self) -> int | None:
        """MiB that are missing up to the floor; None where free is unknown."""
        return None if self.free_mib is None else max(0, self.floor_mib - self.free_mib)

    def __str__(self) -> str:
        """`t4-node/0: 900 MiB free, floor 1536`."""
        free = "free unknown" if self.free_mib is None else f"{self.free_mib} MiB free"
        return f"{self.node}/{self.gpu}: {free}, floor {self.floor_mib}"


@dataclass(frozen=True, slots=True)
class Recycle:
    """Make `victim` give its memory back. `dry_run`: only say so.

    `used_mib` is what it holds on this card; `overshoot_mib` the part of that above its budget;
    `subject_overshoot_mib` that of all its tenant's pods on the card, by which it was chosen.
    `budget_mib` is its budget, with claims what they hold of this card. None: it declares nothing, and
    the estate says `unbudgeted: evict`.
    """

    card: CardState
    victim: PodFacts
    used_mib: int
    budget_mib: int | None
    overshoot_mib: int
    subject_overshoot_mib: int
    dry_run: bool
    decided_at: datetime
    reason: Reason = Reason.OFFENDER

    def message(self) -> str:
        """All numbers in one line."""
        number = "no budget" if self.budget_mib is None else f"a budget of {self.budget_mib}"
        budget = self.victim.claims_text(self.card.uuid) or number
        would = "would recycle" if self.dry_run else "recycle"
        return (
            f"{would} {self.victim}: {self.card} (deficit {self.card.deficit_mib}); "
            f"it holds {self.used_mib} MiB there with {budget}, {self.overshoot_mib} MiB over, "
            f"the largest overshoot on the card is {self.victim.subject}'s with {self.subject_overshoot_mib} MiB"
        )


@dataclass(frozen=True, slots=True)
class NoAction:
    """The card needs nothing."""

    card: CardState
    reason: Reason = Reason.ENOUGH_FREE

    def message(self) -> str:
        """One line."""
        return f"{self.card}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The card may need something, and nothing is done, because of `reason`.

    With `pod` it is about that pod, which was passed over; without, it is the card's verdict.
    """

    card: CardState
    reason: Reason
    text: str
    pod: PodFacts | None = None

    @property
    def key(self) -> tuple[str, str, Reason, str]:
        """What makes two refusals the same one: an Event is written once for each key, not each pass."""
        return (self.card.node, self.card.uuid, self.reason, self.pod.uid if self.pod else "")

    def message(self) -> str:
        """One line."""
        return f"{self.card}: {self.reason}: {self.text}"


Decision = Recycle | NoAction | Refusal


def is_verdict(decision: Decision) -> bool:
    """Whether it is the one verdict of its card, rather than a note on a pod that was passed over."""
    return not (isinstance(decision, Refusal) and (decision.pod is not None or decision.reason is Reason.UNATTRIBUTED))
