"""Who waits after a change: pods that nothing restarts keep their place, the others look for one.

A start's order is the scheduler's queue as far as an estate can tell: priority, then what waited
before, then the estate's own order. Where another order would let another tenant wait, the answer
is "may", for each of them. Pools without a machine that is always there are left out: machines come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.ledger import pods_of
from helpers.domain.review.places import Places
from helpers.domain.seating import Pod

# Beyond so many starting tenants or pods on one kind of node, other orders are not tried out: who waits "may".
MOST_ORDERS_COUNT = 40
MOST_ORDERED_PODS_COUNT = 200


@dataclass(frozen=True)
class Wait:
    """Pods of one tenant without a place. `certain`: whatever the order in which pods start."""

    tenant: str
    pods_count: int
    certain: bool


@dataclass(frozen=True)
class Eviction:
    """Pods of `tenant` may evict those of `victims`, which have a lower priority."""

    tenant: str
    victims: tuple[str, ...]


@dataclass(frozen=True)
class NodeReplay:
    """One kind of node, before and after. `waited`: `{tenant: pods that waited before}`.

    `hangs`: tenants whose rolling update starts a pod before it stops one and finds no room for it.
    """

    before: Places
    after: Places
    waited: Mapping[str, int] = field(default_factory=dict)
    waits: tuple[Wait, ...] = ()
    hangs: tuple[str, ...] = ()
    evictions: tuple[Eviction, ...] = ()


@dataclass(frozen=True)
class _Start:
    """What one tenant starts, and the pods that this replaces."""

    tenant: Tenant
    pods: tuple[Pod, ...]
    replaced: tuple[Pod, ...]
    waited: bool

    @property
    def surges(self) -> bool:
        """Whether a new pod must run before an old one stops."""
        return bool(self.replaced) and not self.tenant.rolls_without_room()

    @property
    def one_by_one(self) -> bool:
        """Whether old pods go on where a new one finds no place."""
        strategy = self.tenant.effective_strategy()
        return len(self.replaced) > 1 and (strategy is None or strategy.type != "Recreate")


def established(estate: Estate, node: Node) -> tuple[Places, dict[str, int]]:
    """Where the pods of `estate` on `node` sit, and `{tenant: pods that wait}`.

    Always-on tenants come first: they were there before an elastic one found room.
    """
    places, waited = Places(node, by_claims=estate.uses_claims(node)), {}
    for tenant in sorted(_tenants_of(estate, node.name), key=lambda one: (one.elastic, -estate.priority_value(one))):
        waiting = places.add(pods_of(estate, tenant))
        if waiting:
            waited[tenant.name] = len(waiting)
    return places, waited


def replay_node(
    base: Estate | None, old: Node | None, new_estate: Estate, new: Node, restarting: Iterable[str]
) -> NodeReplay:
    """What becomes of the pods on `new`, which was `old` before. `restarting`: tenants whose pods are made anew."""
    nobody = Places(new, by_claims=new_estate.uses_claims(new))
    if new.min_nodes == 0:
        return NodeReplay(nobody, nobody.copy())
    before, waited = established(base, old) if base is not None and old is not None else (nobody, {})
    starts, after = _starts(base, old, before, waited, new_estate, new, frozenset(restarting))
    ordered = sorted(starts, key=lambda one: (-new_estate.priority_value(one.tenant), not one.waited))
    run = _Run(new_estate, after.copy())
    run.start(ordered)
    if not run.waiting and not run.hangs:
        return NodeReplay(before, run.places, waited, (), (), tuple(run.evictions))
    waits = _waits(new_estate, after, ordered, run)
    return NodeReplay(before, run.places, waited, waits, tuple(run.hangs), tuple(run.evictions))


def _tenants_of(estate: Estate, node_name: str) -> list[Tenant]:
    return [tenant for tenant in estate.tenants if tenant.node == node_name]


def _starts(
    base: Estate | None,
    old: Node | None,
    before: Places,
    waited: Mapping[str, int],
    new_estate: Estate,
    new: Node,
    restarting: frozenset[str],
) -> tuple[list[_Start], Places]:
    """What each tenant of `new` starts, and the places of the pods that go on."""
    kept: list[Pod] = []
    starts: list[_Start] = []
    for tenant in _tenants_of(new_estate, new.name):
        wanted = tuple(pods_of(new_estate, tenant))
        earlier = base.tenant(tenant.name) if base is not None else None
        at_home = earlier is not None and old is not None and earlier.node == old.name
        ran = before.pods_of(tenant.name) if at_home else ()
        # A machine that goes takes its pods with it; they start anew elsewhere.
        stays = tuple(pod for pod in ran if pod.node_index is None or pod.node_index < new.min_nodes)
        if tenant.name in restarting:
            kept += stays
            starts.append(_Start(tenant, wanted, stays, waited=tenant.name in waited))
            continue
        goes_on = stays[: len(wanted)]
        kept += goes_on
        fresh = _fresh_pods(goes_on, wanted)
        if fresh:
            starts.append(_Start(tenant, fresh, (), waited=tenant.name in waited))
    after = Places(new, by_claims=new_estate.uses_claims(new))
    # Who had a card keeps it, so that no other than before is crowded. What runs goes on even where the number was
    # lowered under it; `order` judges the lowering.
    crowded = {(pod.tenant, pod.ordinal) for pod in before.crowded}
    after.keep(sorted(kept, key=lambda pod: (pod.tenant, pod.ordinal) in crowded))
    return starts, after


def _fresh_pods(goes_on: Sequence[Pod], wanted: Sequence[Pod]) -> tuple[Pod, ...]:
    """Those of `wanted` that do not run yet: on machines without one for a DaemonSet, else as many as are missing."""
    taken = {pod.node_index for pod in goes_on}
    pinned = [pod for pod in wanted if pod.node_index is not None]
    missing = [pod for pod in pinned if pod.node_index not in taken] if pinned else wanted[len(goes_on) :]
    return tuple(replace(pod, ordinal=_fresh(goes_on, index)) for index, pod in enumerate(missing))


def _fresh(goes_on: Sequence[Pod], index: int) -> int:
    return max((pod.ordinal for pod in goes_on), default=-1) + 1 + index


class _Run:
    """One order of starts, played through."""

    def __init__(self, estate: Estate, places: Places) -> None:
        self._estate = estate
        self.places = places
        self.waiting: dict[str, int] = {}
        self.hangs: list[str] = []
        self.evictions: list[Eviction] = []

    def start(self, order: Sequence[_Start]) -> None:
        left_over: list[tuple[_Start, tuple[Pod, ...]]] = []
        for one in order:
            if not one.surges and not one.one_by_one:
                self.places.remove(one.replaced)
        for one in order:
            left = self._start(one)
            if left and not self._evict(one, left):
                left_over.append((one, left))
        for one, left in left_over:
            # What started since may be smaller than what it replaced.
            still = left if one.one_by_one else self.places.add(left)
            if still:
                self.waiting[one.tenant.name] = len(still)

    def _start(self, one: _Start) -> tuple[Pod, ...]:
        if one.surges:
            surge = replace(one.pods[-1], ordinal=_fresh([*one.replaced, *one.pods], 0))
            if self.places.add([surge]):
                self.hangs.append(one.tenant.name)
                return ()
            self.places.remove([surge])
        if not one.one_by_one:
            self.places.remove(one.replaced)
            return self.places.add(one.pods)
        return self._roll(one)

    def _roll(self, one: _Start) -> tuple[Pod, ...]:
        """An old pod stops, a new one starts; where that waits, the other old ones go on."""
        whole = self.places.copy()
        whole.remove(one.replaced)
        if not whole.add(one.pods):
            self.places = whole
            return ()
        for old, new in zip(one.replaced, one.pods, strict=False):
            self.places.remove([old])
            left = self.places.add([replace(new, ordinal=old.ordinal)])
            if left:
                return left
        return self.places.add(one.pods[len(one.replaced) :])

    def _evict(self, one: _Start, left: tuple[Pod, ...]) -> bool:
        """Whether its priority class lets it take the place of others."""
        classes = {item.name: item for item in self._estate.priority_classes}
        own = classes.get(one.tenant.priority or "")
        if own is None or not own.preempt:
            return False
        lower = [
            tenant.name
            for tenant in _tenants_of(self._estate, one.tenant.node)
            if self._estate.priority_value(tenant) < own.value and self.places.pods_of(tenant.name)
        ]
        without = self.places.copy()
        for name in lower:
            without.remove(without.pods_of(name))
        if not lower or without.add(left):
            return False
        self.evictions.append(Eviction(one.tenant.name, tuple(lower)))
        return True


def _waits(estate: Estate, kept: Places, ordered: Sequence[_Start], run: _Run) -> tuple[Wait, ...]:
    """Who waits in this order, and who may in another."""
    found = []
    too_many = len(ordered) > MOST_ORDERS_COUNT or sum(len(one.pods) for one in ordered) > MOST_ORDERED_PODS_COUNT
    for index, one in enumerate(ordered):
        others = [*ordered[:index], *ordered[index + 1 :]]
        name = one.tenant.name
        if too_many:
            if name in run.waiting:
                found.append(Wait(name, run.waiting[name], certain=False))
            continue
        last = _waiting_in(estate, kept, [*others, one], name)
        count = run.waiting.get(name, 0) or last
        if count:
            found.append(Wait(name, count, certain=bool(_waiting_in(estate, kept, [one, *others], name))))
    return tuple(found)


def _waiting_in(estate: Estate, kept: Places, order: Sequence[_Start], name: str) -> int:
    run = _Run(estate, kept.copy())
    run.start(order)
    return run.waiting.get(name, 0)
