"""Where a tenant's memory can come from: a node with its number, or one card where budgets are claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from helpers.domain.doctor.facts import DoctorFacts, NodeSeen, PodSeen
from helpers.domain.estate.tenants import Tenant


@dataclass(frozen=True, slots=True)
class Holder:
    """Memory that is taken; `pods` are those that were seen with it: several may share a claim.

    `name` says whose it is also where no pod was seen: of a claim that none uses, or whose pod has just gone.
    """

    name: str
    held_mib: int
    pods: tuple[PodSeen, ...]
    going: bool = False

    @property
    def ends(self) -> bool:
        """Whether it gets free without anybody's doing."""
        return self.going or (bool(self.pods) and all(_ends(pod) for pod in self.pods))

    def belongs_to(self, tenant: Tenant) -> bool:
        """Whether it is the tenant's alone."""
        return bool(self.pods) and all(pod.belongs_to(tenant) for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Place:
    """A node, or one card of it, with those who hold memory there."""

    node: str
    card: str
    memory_mib: int
    holders: tuple[Holder, ...]

    @property
    def free_mib(self) -> int:
        """What nobody holds."""
        return self.memory_mib - sum(one.held_mib for one in self.holders)

    def said(self, holder: Holder) -> str:
        """`ai/chat-0 16000`, and on which card."""
        where = f" on {self.node}/{self.card}" if self.card else ""
        return f"{holder.name} {holder.held_mib}{where}"


def places_of(facts: DoctorFacts, tenant: Tenant) -> tuple[Place, ...]:
    """Where one pod of the tenant may be; without nodes whose memory is not known, which other rules find."""
    nodes = facts.nodes_of(facts.estate.node(tenant.node))
    if facts.estate.is_claimed(tenant):
        return tuple(place for node in nodes for place in _cards(facts, tenant, node))
    return tuple(place for node in nodes for place in _number(facts, node))


def all_known(facts: DoctorFacts, tenant: Tenant) -> bool:
    """Whether every node of the tenant's kind says what memory it has."""
    nodes = facts.nodes_of(facts.estate.node(tenant.node))
    if facts.estate.is_claimed(tenant):
        return all(facts.cards_of(node.name) for node in nodes)
    return all(node.facts.allocatable_mib is not None for node in nodes)


def _number(facts: DoctorFacts, node: NodeSeen) -> Iterator[Place]:
    shown_mib = node.facts.allocatable_mib
    if shown_mib is not None:
        here = [pod for pod in facts.pods if pod.node == node.name and pod.holds and pod.budget_mib]
        yield Place(node.name, "", shown_mib, tuple(Holder(str(pod), pod.budget_mib, (pod,)) for pod in here))


def _cards(facts: DoctorFacts, tenant: Tenant, node: NodeSeen) -> Iterator[Place]:
    seen = {(pod.namespace, pod.name): pod for pod in facts.pods}
    for card in facts.cards_of(node.name):
        # A driver that does not tell its cards' models may have the right one.
        if tenant.gpu_model is not None and card.model not in ("", tenant.gpu_model):
            continue
        holders = []
        for held in facts.held:
            if held.key == card.key:
                pods = tuple(seen[held.namespace, name] for name in held.pods if (held.namespace, name) in seen)
                users = ", ".join(f"{held.namespace}/{name}" for name in held.pods)
                name = users or f"claim {held.namespace}/{held.claim}"
                holders.append(Holder(name, held.memory_mib, pods, going=bool(held.pods) and not pods))
        yield Place(node.name, card.device, card.memory_mib, tuple(holders))


def _ends(pod: PodSeen) -> bool:
    return pod.terminating or pod.owner[0] == "Job"
