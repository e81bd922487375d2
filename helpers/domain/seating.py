"""Does a set of pods fit on a set of cards, each pod whole on one card?

The scheduler counts one number a node; a card is smaller than that number as soon as a node has
two. Seating answers per card: best fit by decreasing budget, then, where that fails, a bounded
exact search. A seating is a witness that a fit exists, not a promise of the scheduler's choice.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Enough to decide every estate a person writes by hand; beyond it the answer is "not found".
SEARCH_STEPS = 20_000
# "Would one more fit?" is asked once a tenant, and a missed yes there is a warning, not a refusal.
SIDE_SEARCH_STEPS = 500


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
    """One card, or one MIG instance of it: `node_index` of the nodes of its kind, `gpu_index` within the node."""

    node_index: int
    gpu_index: int
    model: str
    advertised_mib: int
    mig_number: int | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Lower nodes, cards and instances first."""
        return (self.node_index, self.gpu_index, -1 if self.mig_number is None else self.mig_number)


@dataclass(frozen=True)
class Seating:
    """Which slot each pod got, `{pod: slot}`; `proved` on a failure says the search was exhaustive."""

    seats: Mapping[Pod, Slot] = field(default_factory=dict)
    complete: bool = False
    proved: bool = True


def seat(pods: Sequence[Pod], slots: Sequence[Slot], shares_per_node: int, *, max_steps: int = SEARCH_STEPS) -> Seating:
    """Seat all `pods` (distinct) on `slots`, or say that it cannot be done.

    Larger budgets first; among slots that fit, the fullest (ties: lower node, lower card), so the
    result does not depend on the order of the estate file.
    """
    if not _sums_fit(pods, slots, shares_per_node):
        return Seating()
    search = _Search(_Board(slots, shares_per_node), pods)
    complete = search.run(max_steps)
    return Seating(search.seats() if complete else {}, complete, complete or not search.cut_short)


class Room:
    """What a complete seating leaves free, and whether more pods would fit there."""

    def __init__(self, seating: Seating, slots: Sequence[Slot], shares_per_node: int) -> None:
        self._seated = list(seating.seats)
        self._slots = slots
        self._shares_per_node = shares_per_node
        self._board = _Board(slots, shares_per_node)
        for pod, slot in seating.seats.items():
            self._board.take(pod, slot)

    def fits(self, more: Sequence[Pod]) -> bool:
        """Whether `more` fit beside the seated pods, where those sit or seated anew; changes nothing."""
        search = _Search(self._board, more)
        found = search.run(SIDE_SEARCH_STEPS)
        search.undo()
        if found:
            return True
        together = [*self._seated, *more]
        return seat(together, self._slots, self._shares_per_node, max_steps=SIDE_SEARCH_STEPS).complete


def _sums_fit(pods: Iterable[Pod], slots: Sequence[Slot], shares_per_node: int) -> bool:
    """The cheap no: more was asked for than there is, in all or of one model."""
    asked = list(pods)
    machines = {slot.node_index for slot in slots}
    if sum(pod.shares for pod in asked) > shares_per_node * len(machines):
        return False
    for model in {None, *(pod.gpu_model for pod in asked)}:
        wanted_mib = sum(pod.budget_mib for pod in asked if model in (None, pod.gpu_model))
        if wanted_mib > sum(slot.advertised_mib for slot in slots if model in (None, slot.model)):
            return False
    return True


def _largest_first(pod: Pod) -> tuple[bool, int, int, str, int]:
    return (pod.node_index is None, -pod.budget_mib, -pod.shares, pod.tenant, pod.ordinal)


# What decides whether a pod fits on a machine: shares left, and MiB left on each card of each model.
_MachineState = tuple[int, tuple[tuple[str, int], ...]]


class _Board:
    """What is left on every card; machines in the same state are kept together.

    One machine of a group stands for all of them, which is what makes pools of hundreds of equal
    machines searchable.
    """

    def __init__(self, slots: Sequence[Slot], shares_per_node: int) -> None:
        self._cards: dict[int, list[Slot]] = {}
        for slot in sorted(slots, key=lambda slot: slot.order):
            self._cards.setdefault(slot.node_index, []).append(slot)
        self._left_mib = {slot: slot.advertised_mib for slot in slots}
        self._left_shares = dict.fromkeys(self._cards, shares_per_node)
        self._groups: dict[_MachineState, list[int]] = {}
        for machine in self._cards:
            insort(self._groups.setdefault(self._state(machine), []), machine)

    def take(self, pod: Pod, slot: Slot) -> None:
        self._change(slot, pod.budget_mib, pod.shares)

    def give_back(self, pod: Pod, slot: Slot) -> None:
        self._change(slot, -pod.budget_mib, -pod.shares)

    def candidates(self, pod: Pod) -> list[Slot]:
        """Slots worth trying for `pod`, fullest first; of equal ones only the first."""
        machines = [group[0] for group in self._groups.values()] if pod.node_index is None else [pod.node_index]
        distinct: dict[tuple[int, int, str], Slot] = {}
        for machine in machines:
            if self._left_shares.get(machine, -1) < pod.shares:
                continue
            for slot in self._cards[machine]:
                left_mib = self._left_mib[slot]
                if left_mib >= pod.budget_mib and pod.gpu_model in (None, slot.model):
                    distinct.setdefault((machine, left_mib, slot.model), slot)
        return sorted(distinct.values(), key=lambda slot: (self._left_mib[slot], slot.order))

    def snapshot(self) -> frozenset[tuple[_MachineState, int]]:
        """The whole board up to the names of machines and cards."""
        return frozenset((state, len(group)) for state, group in self._groups.items())

    def _change(self, slot: Slot, taken_mib: int, taken_shares: int) -> None:
        machine = slot.node_index
        before = self._state(machine)
        self._groups[before].remove(machine)
        if not self._groups[before]:
            del self._groups[before]
        self._left_mib[slot] -= taken_mib
        self._left_shares[machine] -= taken_shares
        insort(self._groups.setdefault(self._state(machine), []), machine)

    def _state(self, machine: int) -> _MachineState:
        cards = sorted((slot.model, self._left_mib[slot]) for slot in self._cards[machine])
        return (self._left_shares[machine], tuple(cards))


class _Search:
    """Depth-first search whose first descent is the greedy best fit."""

    def __init__(self, board: _Board, pods: Sequence[Pod]) -> None:
        self.cut_short = False
        self._board = board
        self._pods = sorted(pods, key=_largest_first)
        # Pinned pods come first; behind them machines differ by nothing but their state.
        self._pinned_count = sum(pod.node_index is not None for pod in pods)
        self._taken: list[Slot] = []
        self._dead_ends: set[tuple[int, frozenset[tuple[_MachineState, int]]]] = set()

    def seats(self) -> dict[Pod, Slot]:
        return dict(zip(self._pods, self._taken, strict=True))

    def undo(self) -> None:
        while self._taken:
            self._give_back_last()

    def run(self, max_steps: int) -> bool:
        """Iterative, because a thousand pods would be a thousand stack frames."""
        stack: list[Iterator[Slot]] = []
        # The greedy descent alone takes one step a pod and must always be possible.
        steps_left = max_steps + len(self._pods)
        while len(self._taken) < len(self._pods):
            depth = len(self._taken)
            if len(stack) == depth:
                stack.append(iter(self._candidates(depth)))
            slot = next(stack[-1], None)
            steps_left -= 1
            if steps_left < 0:
                self.cut_short = True
                return False
            if slot is not None:
                self._board.take(self._pods[depth], slot)
                self._taken.append(slot)
                continue
            self._remember_dead_end(depth)
            stack.pop()
            if not stack:
                return False
            self._give_back_last()
        return True

    def _candidates(self, depth: int) -> list[Slot]:
        if self._dead_ends and (depth, self._board.snapshot()) in self._dead_ends:
            return []
        return self._board.candidates(self._pods[depth])

    def _remember_dead_end(self, depth: int) -> None:
        if depth >= self._pinned_count:
            self._dead_ends.add((depth, self._board.snapshot()))

    def _give_back_last(self) -> None:
        slot = self._taken.pop()
        self._board.give_back(self._pods[len(self._taken)], slot)
