"""One kind of node: which pods have their place, and whether more find one.

The scheduler counts one number a machine. On a machine with several cards that number may have room
where no card has: such a pod starts all the same, and is called crowded here. Claims count each card, so
with them it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from helpers.domain.estate.nodes import Node
from helpers.domain.ledger import slots_of
from helpers.domain.seating import SEARCH_STEPS, SIDE_SEARCH_STEPS, Pod, Seating, Slot, seat

# A kind of node with more pods is not searched to the end for each pod that asks: a review of a large
# pool would take minutes. A place that is missed there is told as found by a search that was cut short.
_MOST_SEARCHED_PODS_COUNT = 32


class Places:
    """Pods on the machines of one entry, `{pod: where}`.

    `seats`: the witness that all of them fit. `crowded`: they fit the number and no card. `beyond`:
    they run already, and the number was lowered under them; nothing starts before all of them fit.
    """

    def __init__(self, node: Node, *, by_claims: bool) -> None:
        self._node = node
        self._by_claims = by_claims
        self._slots = slots_of(node)
        self._shares_count = node.shares_count()
        self.seats: dict[Pod, Slot] = {}
        self.crowded: dict[Pod, int] = {}
        self.beyond: tuple[Pod, ...] = ()
        self.cut_short = False

    def copy(self) -> Places:
        """The same, to try something on."""
        other = Places(self._node, by_claims=self._by_claims)
        other.seats, other.crowded, other.beyond = dict(self.seats), dict(self.crowded), self.beyond
        other.cut_short = self.cut_short
        return other

    def pods_of(self, tenant: str) -> tuple[Pod, ...]:
        """The pods of `tenant` that run, each pinned to its machine, because a pod that runs does not move."""
        seated = [replace(pod, node_index=slot.node_index) for pod, slot in self.seats.items() if pod.tenant == tenant]
        crowded = [replace(pod, node_index=machine) for pod, machine in self.crowded.items() if pod.tenant == tenant]
        beyond = [pod for pod in self.beyond if pod.tenant == tenant]
        return tuple(sorted([*seated, *crowded, *beyond], key=lambda pod: pod.ordinal))

    def add(self, pods: Sequence[Pod]) -> tuple[Pod, ...]:
        """Start `pods`, which are alike but for pinning; those without a place, which wait."""
        if not pods or self._seat(pods):
            return ()
        pinned = any(pod.node_index is not None for pod in pods)
        waiting = [pod for pod in pods if not self._seat([pod])] if pinned else list(pods[self._seat_most(pods) :])
        return tuple(pod for pod in waiting if not self._crowd(pod))

    def keep(self, pods: Sequence[Pod]) -> None:
        """`pods` run already, whatever the number says now."""
        self.beyond = self.add(pods)

    def remove(self, pods: Iterable[Pod]) -> None:
        """`pods`, by tenant and ordinal, are gone."""
        gone = {(pod.tenant, pod.ordinal) for pod in pods}
        self.seats = {pod: slot for pod, slot in self.seats.items() if (pod.tenant, pod.ordinal) not in gone}
        self.crowded = {pod: at for pod, at in self.crowded.items() if (pod.tenant, pod.ordinal) not in gone}
        self.beyond = tuple(pod for pod in self.beyond if (pod.tenant, pod.ordinal) not in gone)
        self._seat(())

    def _seat(self, more: Sequence[Pod]) -> bool:
        seating = self._search(more)
        self.cut_short |= not seating.complete and not seating.proved
        if seating.complete:
            self.seats, self.beyond = dict(seating.seats), ()
        return seating.complete

    def _search(self, more: Sequence[Pod]) -> Seating:
        pods = [*self.seats, *self.beyond, *more]
        max_steps = SEARCH_STEPS if len(pods) <= _MOST_SEARCHED_PODS_COUNT else SIDE_SEARCH_STEPS
        return seat(pods, self._slots, self._shares_count, max_steps=max_steps)

    def _seat_most(self, pods: Sequence[Pod]) -> int:
        """Seat as many of `pods` as have room; all are alike, so the first ones."""
        fits, too_many = 0, len(pods)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._search(pods[:middle]).complete:
                fits = middle
            else:
                too_many = middle
        self._seat(pods[:fits])
        return fits

    def _crowd(self, pod: Pod) -> bool:
        if self.beyond or self._by_claims:
            return False
        machines = range(self._node.min_nodes) if pod.node_index is None else (pod.node_index,)
        for machine in machines:
            here = [one for one, slot in self.seats.items() if slot.node_index == machine]
            here += [one for one, at in self.crowded.items() if at == machine]
            room_mib = self._node.advertised_mib - sum(one.budget_mib for one in here)
            shares_count = self._shares_count - sum(one.shares for one in here)
            if machine < self._node.min_nodes and pod.budget_mib <= room_mib and pod.shares <= shares_count:
                self.crowded[pod] = machine
                return True
        return False
