"""What doctor knows of a cluster when it judges. Objects that are not there are absent, never empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from helpers.domain.admission.certificate_plan import Authority
from helpers.domain.capacity import CapacitySettings, NodeFacts, capacity_settings, node_kinds
from helpers.domain.dra.offers import HeldMemory, OfferedCard
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.pod_phase import ENDED

Manifest = Mapping[str, Any]


class ObjectName(NamedTuple):
    """One object; `namespace` is empty for what belongs to the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`DaemonSet nvidia/gpumem-exporter-t4-node`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def name_of(tenant: Tenant) -> ObjectName:
    """The tenant's workload."""
    return ObjectName(tenant.workload.kind, tenant.namespace, tenant.workload.name)


@dataclass(frozen=True, slots=True)
class Taint:
    """One taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """One node: its numbers, whether it is Ready, and its taints."""

    facts: NodeFacts
    ready: bool
    taints: tuple[Taint, ...] = ()

    @property
    def name(self) -> str:
        """The Node object's name."""
        return self.facts.name


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One pod.

    `owner` is kind and name of the workload that made it, two empty texts for a bare pod. `requests` are
    those of the estate's GPU resources that it asks for, `budget_mib` what the scheduler counts of its
    memory (0: it declares none); `claimed`: it has a claim on memory of a card instead. `unplaced` is the
    scheduler's own reason while it has no node.
    """

    namespace: str
    name: str
    node: str
    phase: str
    reason: str = ""
    unplaced: str = ""
    ready: bool = False
    terminating: bool = False
    owner: tuple[str, str] = ("", "")
    labels: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""
    requests: Mapping[str, int] = field(default_factory=dict)
    budget_mib: int = 0
    claimed: bool = False

    def __str__(self) -> str:
        """`immich/immich-ml-5d9c`."""
        return f"{self.namespace}/{self.name}"

    @property
    def holds(self) -> bool:
        """Whether the node's budget is taken by it: it has a node and has not ended."""
        return bool(self.node) and self.phase not in ENDED

    def belongs_to(self, tenant: Tenant) -> bool:
        """Whether the tenant's workload made it."""
        return (self.namespace, *self.owner) == tenant.key

    def made_by(self, workload: ObjectName) -> bool:
        """Whether that workload made it."""
        return (self.namespace, self.owner) == (workload.namespace, (workload.kind, workload.name))


@dataclass(frozen=True, slots=True)
class Need:
    """What a tenant's pod was measured to need, MiB, and how it was measured."""

    tenant: str
    need_mib: int
    source: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something that may be right counts as forgotten."""

    released_hours: float = 24.0
    dry_run_days: float = 7.0
    certificate_days: float = 14.0


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    """All that is looked at.

    `wanted` is what the estate renders, of the kinds that are looked at; `objects` what of it and of the
    tenants' workloads is there. `authorities`: `{webhook: certificates of its caBundle}`, None where the
    bundle is empty. `endpoints`: ready addresses of a Service, `{(namespace, service): count}`; `scrapes`:
    what is wrong with a node's exporter, empty where it answers; only asked where somebody said how. `cards`
    are offered to claims, `held` is what claims have of them; only read where the estate counts by claims.
    """

    estate: Estate
    estate_file: str
    now_at: datetime
    server_version: str
    nodes: tuple[NodeSeen, ...]
    pods: tuple[PodSeen, ...]
    wanted: Mapping[ObjectName, Manifest]
    objects: Mapping[ObjectName, Manifest]
    jobs: tuple[Manifest, ...] = ()
    authorities: Mapping[str, tuple[Authority, ...] | None] = field(default_factory=dict)
    endpoints: Mapping[tuple[str, str], int] = field(default_factory=dict)
    scrapes: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    cards: tuple[OfferedCard, ...] = ()
    held: tuple[HeldMemory, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)

    def capacity(self) -> CapacitySettings:
        """What every node must show."""
        return capacity_settings(self.estate)

    def nodes_of(self, entry: Node) -> tuple[NodeSeen, ...]:
        """The machines of one node entry, by name."""
        kind = next(one for one in node_kinds(self.estate) if one.name == entry.name)
        found = (node for node in self.nodes if kind.matches(node.name, node.facts.labels))
        return tuple(sorted(found, key=lambda node: node.name))

    def cards_of(self, node: str) -> tuple[OfferedCard, ...]:
        """The cards that a node offers to claims."""
        return tuple(card for card in self.cards if card.node == node)

    def pods_of(self, tenant: Tenant) -> tuple[PodSeen, ...]:
        """The tenant's pods that have not ended."""
        return tuple(pod for pod in self.pods if pod.belongs_to(tenant) and pod.phase not in ENDED)

    def workload(self, tenant: Tenant) -> Manifest | None:
        """The tenant's workload, or None."""
        kind = tenant.workload.kind
        return self.objects.get(ObjectName(kind, tenant.namespace, tenant.workload.name))

    def held_mib(self, node: str) -> int:
        """What the pods on a node declare together, by its number."""
        return sum(pod.budget_mib for pod in self.pods if pod.node == node and pod.holds)
