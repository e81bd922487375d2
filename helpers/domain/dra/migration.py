"""Moving tenants from the node's number to claims, one after the other, and what that needs at each step.

While some tenants are still counted by the number, claims do not see them. So each of their pods is held
for: with a claim of its budget on its card, or, where a node has several cards and nobody can tell which
one it is on, on each of them. A tenant's own holds go when its old pods are gone, and only then do its
new pods find room. Always-on tenants go before elastic ones, and large budgets first, because the scheduler
takes the first card with room. Who moved and found no room yet gets it before the tenant that makes it: a smaller
one that started first could be on the card where the larger one fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from helpers.domain.dra.offers import OfferedCard
from helpers.domain.dra.replay import Ask, CardRoom, replay
from helpers.domain.estate.tenants import Tenant


@dataclass(frozen=True, slots=True)
class OldPod:
    """A pod that the number let in, on the node that it runs on."""

    namespace: str
    name: str
    uid: str
    node: str
    budget_mib: int

    def __str__(self) -> str:
        """`ai/ollama-0 (16000 MiB)`."""
        return f"{self.namespace}/{self.name} ({self.budget_mib} MiB)"


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """One tenant of the kind of node that is moved. `replicas`: what its workload runs, or goes back to where it is
    stopped; a DaemonSet: None.

    `moved`: its workload has the claim already; `stopped`: an earlier run stopped it and did not start it again.
    `waiting_count`: pods of it that have a claim and no node.
    """

    tenant: Tenant
    old_pods: tuple[OldPod, ...]
    replicas: int | None
    moved: bool
    stopped: bool = False
    waiting_count: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.moved and not self.old_pods and not self.stopped


@dataclass(frozen=True, slots=True)
class Move:
    """One tenant's turn. `seats` is `{pod: node/card}` as the replay has it; `waits_count` are pods without room yet.

    `lets_in`: `{tenant: pods}` that moved before and get room while this one is stopped.
    """

    tenant: Tenant
    restarts_count: int
    seats: Mapping[str, str]
    waits_count: int
    lets_in: Mapping[str, int]

    def text(self) -> str:
        """`ollama (16000 MiB): 1 pod stops and starts, on gpu-worker/gpu-0`."""
        pods = "1 pod stops and starts" if self.restarts_count == 1 else f"{self.restarts_count} pods stop and start"
        what = pods if self.restarts_count else "no pod runs, so none stops"
        where = f", on {', '.join(sorted(set(self.seats.values())))}" if self.seats else ""
        waits = f"; {self.waits_count} Pending until there is room" if self.waits_count else ""
        first = f"; room first for {', '.join(self.lets_in)}" if self.lets_in else ""
        return f"{self.tenant.name} ({self.tenant.budget_mib} MiB): {what}{where}{waits}{first}"


@dataclass(frozen=True, slots=True)
class MovePlan:
    """All turns in their order. `pending` are tenants that would have a pod without a card in the end."""

    moves: tuple[Move, ...]
    pending: tuple[str, ...]


def cards_held(pod: OldPod, cards: Sequence[OfferedCard]) -> tuple[OfferedCard, ...]:
    """The cards that a pod of the old backend may be on: all of its node's."""
    return tuple(card for card in cards if card.node == pod.node)


def plan_moves(
    tenants: Sequence[TenantFacts],
    cards: Sequence[OfferedCard],
    taken_mib: Mapping[str, int],
    strangers: Sequence[OldPod] = (),
) -> MovePlan:
    """The order, and what the scheduler can do at each step.

    Args:
        tenants: Every tenant of this kind of node.
        cards: What its nodes offer.
        taken_mib: `{node/card: MiB}` that claims have already.
        strangers: Pods by the number there that are no tenant's; they stay, and are held for.
    """
    board = _Board(cards, taken_mib, [*strangers, *(pod for facts in tenants for pod in facts.old_pods)])
    waiting = [one.tenant for one in tenants if one.done for _ in range(one.waiting_count)]
    moves: list[Move] = []
    for facts in sorted((one for one in tenants if not one.done), key=_order):
        board.forget(facts.old_pods)
        waiting, let_in = _let_in(board, waiting)
        names = [f"{facts.tenant.name}-{index}" for index in range(max(len(facts.old_pods), facts.replicas or 0))]
        homes = [pod.node for pod in facts.old_pods]
        seats = {name: card for name in names if (card := board.seat(facts.tenant, homes)) is not None}
        waiting += [facts.tenant] * (len(names) - len(seats))
        moves.append(Move(facts.tenant, len(facts.old_pods), seats, len(names) - len(seats), let_in))
    return MovePlan(tuple(moves), tuple(dict.fromkeys(tenant.name for tenant in waiting)))


def _let_in(board: _Board, waiting: Sequence[Tenant]) -> tuple[list[Tenant], dict[str, int]]:
    """Who still waits, a tenant a pod, and `{tenant: pods}` of those that get room now."""
    still: list[Tenant] = []
    let_in: dict[str, int] = {}
    for tenant in waiting:
        if board.seat(tenant, []) is None:
            still.append(tenant)
        else:
            let_in[tenant.name] = let_in.get(tenant.name, 0) + 1
    return still, let_in


def _order(facts: TenantFacts) -> tuple[bool, bool, bool, int, str]:
    # Who waits goes last: with a claim it could take what a tenant leaves between its old pod and its new one. By the
    # number it cannot, because the number is gone.
    # Who was stopped by a run that broke off is down, so it goes first.
    return (not facts.stopped, not facts.old_pods, facts.tenant.elastic, -facts.tenant.budget_mib, facts.tenant.name)


class _Board:
    """What is left on each card while some pods are held for on all cards of their node."""

    def __init__(self, cards: Sequence[OfferedCard], taken_mib: Mapping[str, int], old: Sequence[OldPod]) -> None:
        self._old = list(old)
        self._rooms: dict[str, list[CardRoom]] = {}
        for card in cards:
            left_mib = card.memory_mib - taken_mib.get(f"{card.node}/{card.device}", 0)
            self._rooms.setdefault(card.node, []).append(CardRoom(card.device, left_mib, card.model))

    def forget(self, gone: Sequence[OldPod]) -> None:
        self._old = [pod for pod in self._old if pod not in gone]

    def seat(self, tenant: Tenant, homes: list[str]) -> str | None:
        """The card that a pod of `tenant` gets: on a node where one of its own ran, else on any."""
        first = homes.pop(0) if homes else ""
        for node in sorted(self._rooms, key=lambda name: (name != first, name)):
            held_mib = sum(pod.budget_mib for pod in self._old if pod.node == node)
            free = [replace(room, left_mib=room.left_mib - held_mib) for room in self._rooms[node]]
            card = replay(free, [Ask("pod", tenant.budget_mib, tenant.gpu_model)])["pod"]
            if card is not None:
                self._take(node, card, tenant.budget_mib)
                return f"{node}/{card}"
        return None

    def _take(self, node: str, card: str, budget_mib: int) -> None:
        self._rooms[node] = [
            replace(room, left_mib=room.left_mib - budget_mib) if room.name == card else room
            for room in self._rooms[node]
        ]
