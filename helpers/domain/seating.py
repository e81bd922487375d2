"""Does a set of pods fit on a set of cards, each pod whole on one card?

The scheduler counts one number a node; a card is smaller than that number as soon as a node has
two. Seating answers per card: first-fit by decreasing budget, then, where that fails, a bounded
exact search. A seating is a witness that a fit exists, not a promise of the scheduler's choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Enough to decide every estate a person writes by hand; beyond it the answer is "not found".
SEARCH_STEPS = 200_000


@dataclass(frozen=True)
class Pod:
    """One pod to seat. `node_index` pins it to one node (DaemonSets); None: any."""

    tenant: str
    ordinal: int
    budget_mib: int
    shares: int
    gpu_model: str | None = None
    node_index: int | None = None


@dataclass(frozen=True)
class Slot:
    """One card: `node_index` of the nodes of its kind, `gpu_index` within the node."""

    node_index: int
    gpu_index: int
    model: str
    advertised_mib: int


@dataclass(frozen=True)
class Seating:
    """Which slot each pod got, `{pod: slot}`; `proved` on a failure says the search was exhaustive."""

    seats: dict[Pod, Slot] = field(default_factory=dict)
    complete: bool = False
    proved: bool = True


def seat(pods: Sequence[Pod], slots: Sequence[Slot], shares_per_node: int) -> Seating:
    """Seat all `pods` on `slots`, or say that it cannot be done.

    Larger budgets first; among slots that fit, the fullest (ties: lower node, lower card), so the
    result does not depend on the order of the estate file beyond equal budgets.
    """
    search = _Search(sorted(pods, key=_largest_first), slots, shares_per_node)
    complete = search.run()
    return Seating(dict(search.seats) if complete else {}, complete, complete or not search.exhausted)


def _largest_first(pod: Pod) -> tuple[bool, int, int, str, int]:
    return (pod.node_index is None, -pod.budget_mib, -pod.shares, pod.tenant, pod.ordinal)


class _Search:
    """Depth-first search whose first descent is the greedy best fit."""

    def __init__(self, pods: Sequence[Pod], slots: Sequence[Slot], shares_per_node: int) -> None:
        self.pods = pods
        self.slots = slots
        self.seats: dict[Pod, Slot] = {}
        self.exhausted = False
        self._steps = 0
        self._left_mib = {slot: slot.advertised_mib for slot in slots}
        self._left_shares = {slot.node_index: shares_per_node for slot in slots}

    def run(self) -> bool:
        """Iterative, because a thousand pods would be a thousand stack frames."""
        stack: list[tuple[Pod, Iterator[Slot]]] = []
        while len(self.seats) < len(self.pods):
            pod = self.pods[len(self.seats)]
            if len(stack) <= len(self.seats):
                stack.append((pod, iter(self._candidates(pod))))
            slot = next(stack[-1][1], None)
            self._steps += 1
            if self._steps > SEARCH_STEPS:
                self.exhausted = True
                return False
            if slot is not None:
                self._take(pod, slot)
                continue
            stack.pop()
            if not stack:
                return False
            self._give_back(stack[-1][0])
        return True

    def _candidates(self, pod: Pod) -> list[Slot]:
        fitting = [slot for slot in self.slots if self._fits(pod, slot)]
        fitting.sort(key=lambda slot: (self._left_mib[slot], slot.node_index, slot.gpu_index))
        distinct: dict[tuple[int, int, str], Slot] = {}
        for slot in fitting:
            # Cards of one node in the same state lead to the same subtree; one of them is enough.
            distinct.setdefault((slot.node_index, self._left_mib[slot], slot.model), slot)
        return list(distinct.values())

    def _fits(self, pod: Pod, slot: Slot) -> bool:
        return (
            self._left_mib[slot] >= pod.budget_mib
            and self._left_shares[slot.node_index] >= pod.shares
            and pod.gpu_model in (None, slot.model)
            and pod.node_index in (None, slot.node_index)
        )

    def _take(self, pod: Pod, slot: Slot) -> None:
        self.seats[pod] = slot
        self._left_mib[slot] -= pod.budget_mib
        self._left_shares[slot.node_index] -= pod.shares

    def _give_back(self, pod: Pod) -> None:
        slot = self.seats.pop(pod)
        self._left_mib[slot] += pod.budget_mib
        self._left_shares[slot.node_index] += pod.shares
