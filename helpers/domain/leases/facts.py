"""What is known when leases are decided, as frozen values. Absent is None here and never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from helpers.domain.leases.book import Lease


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card as its node's exporter measured it last.

    `free_mib` None: not known, and `problem` says why. `pods_mib`: `{(namespace, pod): MiB}` used there.
    """

    node: str
    gpu_index: int
    free_mib: int | None
    problem: str = ""
    pods_mib: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def card(self) -> str:
        """`t4-node/0`, as messages name the card."""
        return f"{self.node}/{self.gpu_index}"


@dataclass(frozen=True, slots=True)
class LaneUse:
    """A lane whose jobs run now. `loaded_mib`: what of its need is in the memory already; None: not known."""

    lane: str
    tenant: str
    need_mib: int
    loaded_mib: int | None = None

    @property
    def to_come_mib(self) -> int:
        """What may still be taken of the measured free memory."""
        return max(0, self.need_mib - (self.loaded_mib or 0))


@dataclass(frozen=True)
class LeaseSituation:
    """All that a pass decides on.

    Attributes:
        now_at: The clock of signs of life and of waiting: the store's, which all replicas share.
        wall_at: The wall clock, for windows.
        cards: `{node: its cards}`; a node that is absent was not measured yet.
        lane_uses: Lanes whose jobs run; None: the queues were not looked at yet, so nobody knows.
    """

    now_at: datetime
    wall_at: datetime
    cards: Mapping[str, tuple[CardFacts, ...]]
    lane_uses: tuple[LaneUse, ...] | None = ()

    def card(self, node: str, gpu_index: int) -> CardFacts:
        """That card's facts; where there are none, its free memory is unknown."""
        for facts in self.cards.get(node, ()):
            if facts.gpu_index == gpu_index:
                return facts
        return CardFacts(node, gpu_index, None, "it was not measured yet")


def held_mib(lease: Lease, card: CardFacts) -> int | None:
    """MiB that the lease's pod measurably took since the grant; None where nobody measures that."""
    if not lease.holder.pod or lease.base_mib is None or card.free_mib is None:
        return None
    return max(0, card.pods_mib.get((lease.holder.namespace, lease.holder.pod), 0) - lease.base_mib)
