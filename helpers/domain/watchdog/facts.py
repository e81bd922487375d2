"""What the watchdog knows when it decides: cards, pods and its own past acts, as frozen values.

Absent is None here and never 0. Every instant is aware. MiB throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import AwareDatetime, ConfigDict

# Kubernetes reserves priorities from here up for its own classes (scheduling/types.go,
# HighestUserDefinablePriority is one thousand million; system-cluster-critical is twice that).
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
_SYSTEM_CLASS_PREFIX = "system-"

# Heeded where facts are read from a recorded trace: a key that nobody knows is an error there.
_EXACT_KEYS = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """One row of a card's sample: MiB that the processes of one container hold on that card."""

    __pydantic_config__ = _EXACT_KEYS

    namespace: str
    pod: str
    container: str
    used_mib: int


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One card as the exporter on its node read it.

    `gpu` is the card's index on the node as text (a MIG device has a text of its own), `uuid` what
    identifies it for good. `ok` is the exporter's own word that every row of this card was read;
    `error` says why not. `reserved_mib` and `unattributed_mib` are None where the driver does not
    say. `used_mib` leaves the driver's reserved part out.
    """

    __pydantic_config__ = _EXACT_KEYS

    node: str
    gpu: str
    uuid: str
    sampled_at: AwareDatetime
    ok: bool
    total_mib: int | None
    used_mib: int | None
    free_mib: int | None
    reserved_mib: int | None = None
    pods: tuple[ContainerUse, ...] = ()
    unattributed_mib: int | None = None
    error: str = ""

    @property
    def card(self) -> str:
        """`t4-node/0`, as messages name the card."""
        return f"{self.node}/{self.gpu}"


@dataclass(frozen=True, slots=True)
class CardBudget:
    """What a pod's claim holds of one card."""

    __pydantic_config__ = _EXACT_KEYS

    uuid: str
    budget_mib: int


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod as the API shows it.

    `tenant` is the estate's name, None for pods that no tenant declares. `budget_mib` is the sum
    over the containers' limits or over the pod's claims; None where there is neither, and 0 is a
    budget of 0. `cards` are the cards that the claims are on; None where the budget is a number, or
    where a claim's card is not known.
    `budget_problem` holds the quantity's error where a budget is there and cannot be read.
    `owner_kind` is the controlling owner's kind: `ReplicaSet`, `StatefulSet`, `DaemonSet`, `Job`,
    `Node` for a static pod, None for a bare one. `deletion_at` is `metadata.deletionTimestamp`: the
    instant at which the grace period ends. `started_at` is `status.startTime`, in whole seconds.
    """

    __pydantic_config__ = _EXACT_KEYS

    namespace: str
    name: str
    uid: str
    node: str
    tenant: str | None
    budget_mib: int | None
    owner_kind: str | None
    owner_name: str = ""
    workload_class: str = "realtime"
    priority: int = 0
    priority_class: str = ""
    protected: bool = False
    budget_problem: str = ""
    deletion_at: AwareDatetime | None = None
    started_at: AwareDatetime | None = None
    cards: tuple[CardBudget, ...] | None = None

    @property
    def subject(self) -> str:
        """Whom caps and cool-downs count for: the tenant, or the undeclared workload.

        It survives the pod: a recycled pod's successor has the same subject.
        """
        if self.tenant is not None:
            return self.tenant
        owner = f"{self.owner_kind}/{self.owner_name}" if self.owner_name else f"Pod/{self.name}"
        return f"{self.namespace}/{owner}"

    def budget_on_mib(self, uuid: str) -> int | None:
        """The budget on one card: what claims hold of it, 0 where they hold of others; else the pod's."""
        if self.cards is None:
            return self.budget_mib
        return sum(card.budget_mib for card in self.cards if card.uuid == uuid)

    def claims_text(self, uuid: str) -> str:
        """What claims give the pod on that card, `no claim on it but 3000 MiB on GPU-1`; empty without claims."""
        if self.cards is None:
            return ""
        elsewhere = " and ".join(f"{card.budget_mib} MiB on {card.uuid}" for card in self.cards if card.uuid != uuid)
        here_mib = self.budget_on_mib(uuid)
        here = f"a claim of {here_mib} MiB on it" if here_mib else "no claim on it"
        return f"{here} but {elsewhere}" if elsewhere and not here_mib else here

    @property
    def terminating(self) -> bool:
        """Whether its deletion was accepted; its memory is on its way back."""
        return self.deletion_at is not None

    @property
    def system_critical(self) -> bool:
        """Whether Kubernetes itself needs it."""
        return self.priority >= SYSTEM_CRITICAL_PRIORITY or self.priority_class.startswith(_SYSTEM_CLASS_PREFIX)

    def __str__(self) -> str:
        """`immich/immich-server-5d9c`."""
        return f"{self.namespace}/{self.name}"


class Outcome(StrEnum):
    """How one act on one victim ended."""

    RELEASED = "released"
    """The release hook gave back enough; the pod lives."""
    EVICTED = "evicted"
    DELETED = "deleted"
    DRY_RUN = "dry_run"
    """Nothing was done; it would have been."""
    ABANDONED = "abandoned"
    """Re-validation said no before anything was done."""
    BLOCKED = "blocked"
    """A PodDisruptionBudget never yielded."""
    STUCK = "stuck_terminating"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ActRecord:
    """One act of the watchdog. `finished_at` None: it is under way. `freed_mib` None: not known.

    `dry_run` records count against dry-run decisions only, and real ones against real ones: what
    was never done restricts nothing.
    """

    __pydantic_config__ = _EXACT_KEYS

    subject: str
    namespace: str
    pod: str
    uid: str
    node: str
    uuid: str
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    dry_run: bool
    outcome: Outcome | None = None
    freed_mib: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it used up the subject's turn: an act that was called off did nothing."""
        return self.outcome != Outcome.ABANDONED
