"""How much of each card may still be leased: by the ledger, and by what is measured free. Both must allow it.

The ledger takes for every tenant the larger of what it was promised and what its leases and running lane
jobs need. Measured free memory is counted without the floor, and without what was granted and is not in
use yet: that will be taken without asking again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from helpers.domain.leases.book import Lease
from helpers.domain.leases.facts import CardFacts, LeaseSituation
from helpers.domain.leases.settings import CardRule, HolderRule, LeaseSettings, NodeRule


@dataclass(frozen=True)
class Place:
    """A card where it fits, and what would be left there of the measured room."""

    card: CardFacts
    left_mib: int


@dataclass(frozen=True)
class NoRoom:
    """Why it fits nowhere.

    `cause`: `memory` is what others on the node could give back; `budget` what its own tenant could;
    `unknown` is what nobody knows.
    """

    cause: Literal["memory", "budget", "unknown"]
    text: str


class Rooms:
    """The room on all cards beside `granted`; `take` notes one more lease."""

    def __init__(self, settings: LeaseSettings, granted: Iterable[Lease], now: LeaseSituation) -> None:
        self._settings = settings
        self._granted = list(granted)
        self._now = now
        self._to_come: dict[tuple[str, int], int] = {}
        self._leased: dict[tuple[str, int], dict[str, int]] = {}
        self._of_tenant: dict[str, int] = {}
        for lease in self._granted:
            self._note(lease)

    def take(self, lease: Lease) -> None:
        """`lease` was granted in this very pass."""
        self._granted.append(lease)
        self._note(lease)

    def fit(self, wish: Lease, holder: HolderRule) -> Place | NoRoom:
        """The card of the holder's node with the most measured room on which `wish` fits, or why there is none."""
        if self._now.lane_uses is None:
            return NoRoom("unknown", "what the jobs of the lanes use is not known yet: the queues were not looked at")
        own = self._own_budget(wish, holder)
        if own is not None:
            return own
        node = self._settings.node(holder.node)
        found = [self._on(card, node, wish) for card in node.cards]
        places = [one for one in found if isinstance(one, Place)]
        if places:
            return max(places, key=lambda one: (one.left_mib, -one.card.gpu_index))
        refusals = [one for one in found if isinstance(one, NoRoom)]
        memory = any(one.cause == "memory" for one in refusals)
        return NoRoom("memory" if memory else "unknown", "; ".join(one.text for one in refusals))

    def _note(self, lease: Lease) -> None:
        if lease.gpu_index is None:
            return
        card = (lease.node, lease.gpu_index)
        here = self._leased.setdefault(card, {})
        here[lease.tenant] = here.get(lease.tenant, 0) + lease.mib
        self._of_tenant[lease.tenant] = self._of_tenant.get(lease.tenant, 0) + lease.mib
        self._to_come.pop(card, None)

    def _own_budget(self, wish: Lease, holder: HolderRule) -> NoRoom | None:
        leased_mib, jobs_mib = self._of_tenant.get(wish.tenant, 0), self._jobs_mib(wish.tenant)
        if leased_mib + jobs_mib + wish.mib <= holder.room_mib:
            return None
        jobs = f" and {jobs_mib} MiB needed by jobs that run" if jobs_mib else ""
        return NoRoom(
            "budget",
            f"tenant {wish.tenant} has {holder.room_mib} MiB, of which {leased_mib} MiB are leased{jobs}; "
            f"{wish.mib} MiB do not fit",
        )

    def _on(self, rule: CardRule, node: NodeRule, wish: Lease) -> Place | NoRoom:
        card = self._now.card(node.node, rule.gpu_index)
        taken_mib = self._taken_mib(rule, node.node, wish)
        if taken_mib + wish.mib > rule.advertised_mib:
            left_mib = rule.advertised_mib - taken_mib
            return NoRoom(
                "memory",
                f"{card.card} has {max(0, left_mib)} of {rule.advertised_mib} MiB that are not promised or leased "
                f"to others; {wish.mib} MiB do not fit",
            )
        if card.free_mib is None:
            return NoRoom(
                "unknown", f"the free memory of {card.card} is not known ({card.problem}), and unknown is not free"
            )
        to_come_mib = self._to_come_mib(node.node, rule)
        left_mib = card.free_mib - node.floor_mib - to_come_mib
        if wish.mib <= left_mib:
            return Place(card, left_mib - wish.mib)
        coming = f" and {to_come_mib} MiB that were granted and are not in use yet" if to_come_mib else ""
        return NoRoom(
            "memory",
            f"{card.card} has {card.free_mib} MiB measured free; less the floor of {node.floor_mib} MiB{coming} "
            f"{max(0, left_mib)} MiB are left, and {wish.mib} MiB do not fit",
        )

    def _taken_mib(self, rule: CardRule, node: str, wish: Lease) -> int:
        """What is taken on that card by everybody, the wisher's promise used up by its own leases first."""
        leased = self._leased.get((node, rule.gpu_index), {})
        taken_mib = 0
        for tenant in {*rule.promised_mib, *leased, *self._job_tenants(node), wish.tenant}:
            claim_mib = leased.get(tenant, 0) + self._jobs_mib(tenant)
            promised_mib = rule.promised_mib.get(tenant, 0)
            if tenant == wish.tenant:  # what is promised to it and not leased yet is what it asks for
                promised_mib = max(0, promised_mib - wish.mib)
            taken_mib += max(promised_mib, claim_mib)
        return taken_mib

    def _to_come_mib(self, node: str, rule: CardRule) -> int:
        key = (node, rule.gpu_index)
        if key not in self._to_come:
            card = self._now.card(node, rule.gpu_index)
            here = [lease for lease in self._granted if (lease.node, lease.gpu_index) == key]
            jobs_mib = sum(use.to_come_mib for use in self._now.lane_uses or () if self._is_on(use.tenant, node))
            self._to_come[key] = unused_mib(here, card) + jobs_mib
        return self._to_come[key]

    def _jobs_mib(self, tenant: str) -> int:
        return sum(use.need_mib for use in self._now.lane_uses or () if use.tenant == tenant)

    def _job_tenants(self, node: str) -> set[str]:
        return {use.tenant for use in self._now.lane_uses or () if self._is_on(use.tenant, node)}

    def _is_on(self, tenant: str, node: str) -> bool:
        return self._settings.lane_nodes.get(tenant) == node


def unused_mib(granted: Iterable[Lease], card: CardFacts) -> int:
    """What `granted` on that card have not taken of it yet; use that nobody measures or reports counts as none."""
    total_mib = 0
    pods: dict[tuple[str, str], list[Lease]] = {}
    for lease in granted:
        if lease.holder.pod and lease.base_mib is not None:
            pods.setdefault((lease.holder.namespace, lease.holder.pod), []).append(lease)
        else:
            total_mib += max(0, lease.mib - (lease.used_mib or 0))
    for pod, leases in pods.items():
        base_mib = min(lease.base_mib or 0 for lease in leases)
        used_mib = max(0, card.pods_mib.get(pod, 0) - base_mib)
        total_mib += max(0, sum(lease.mib for lease in leases) - used_mib)
    return total_mib
