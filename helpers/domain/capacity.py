"""What capacity, gate and verify work from, and what they decide. Pure: facts in, actions out.

`CapacitySettings` is the one document that the Terraform step, the CronJob, the watch Deployment
and the gate all read (as JSON), so that they cannot disagree on a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from helpers.domain.dra.claims import driver_of
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeKind(_Settings):
    """One kind of node, and how it is known. `labels` are those of the estate's selector."""

    name: str
    node_name: str | None
    labels: dict[str, str]
    min_nodes: int

    def matches(self, node_name: str, labels: dict[str, str]) -> bool:
        """Whether the Kubernetes node `node_name` with `labels` is of this kind."""
        if self.node_name is not None:
            return node_name == self.node_name
        return all(labels.get(key) == value for key, value in self.labels.items())


class NodeCapacity(NodeKind):
    """What every node of one kind must show."""

    advertised_mib: int
    share_resource: str
    shares_count: int


class ClaimNode(NodeKind):
    """A kind of node that shows no number: every node offers these cards, MiB of each, largest first."""

    cards_mib: tuple[int, ...]


class CapacitySettings(_Settings):
    """What is advertised where. `drain`: a number may go below what runs.

    `claim_nodes` have no number; `claims_driver` publishes their cards.
    """

    resource: str
    kubernetes_version: str
    label_prefix: str
    drain: bool
    nodes: tuple[NodeCapacity, ...]
    claim_nodes: tuple[ClaimNode, ...] = ()
    claims_driver: str = ""

    def to_json(self) -> str:
        """One line, keys sorted: the same estate gives the same text for ever."""
        unused = set() if self.claim_nodes else {"claim_nodes", "claims_driver"}
        return json.dumps(self.model_dump(mode="json", exclude=unused), sort_keys=True, separators=(",", ":"))


def capacity_settings(estate: Estate) -> CapacitySettings:
    """The capacity document of `estate`."""
    return CapacitySettings(
        resource=estate.resource,
        kubernetes_version=estate.kubernetes.version,
        label_prefix=estate.label_prefix,
        drain=estate.capacity.drain,
        nodes=tuple(
            NodeCapacity(
                **_known_by(node),
                advertised_mib=node.advertised_mib,
                share_resource=node.share_resource(),
                shares_count=node.shares_count(),
            )
            for node in estate.number_nodes()
        ),
        claim_nodes=tuple(
            ClaimNode(**_known_by(node), cards_mib=tuple(sorted(node.cards_mib(), reverse=True)))
            for node in estate.claim_nodes()
        ),
        claims_driver=driver_of(estate) if estate.claim_nodes() else "",
    )


def node_kinds(estate: Estate) -> tuple[NodeKind, ...]:
    """Every kind of node, whatever its budgets are counted by."""
    return tuple(NodeKind(**_known_by(node)) for node in estate.nodes)


def _known_by(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "node_name": node.node_name,
        "labels": dict(sorted((node.selector or {}).items())),
        "min_nodes": node.min_nodes,
    }


@dataclass(frozen=True)
class RunningPod:
    """A pod on a node that holds budget; `budget_mib` is what the scheduler counts for the whole pod."""

    namespace: str
    name: str
    budget_mib: int

    def __str__(self) -> str:
        """`immich/immich-server-5d9c (1800 MiB)`."""
        return f"{self.namespace}/{self.name} ({self.budget_mib} MiB)"


@dataclass(frozen=True)
class NodeFacts:
    """One Kubernetes node as read.

    `capacity_mib` and `allocatable_mib` are None where the node does not carry the resource;
    `owned` says that our field manager owns the number; `pods` are those that hold budget there.
    `shares` are the allocatable device-plugin shares, by resource name, of those that it carries.
    """

    name: str
    labels: dict[str, str]
    capacity_mib: int | None
    allocatable_mib: int | None
    owned: bool
    pods: tuple[RunningPod, ...] = ()
    shares: Mapping[str, int] = field(default_factory=dict)

    @property
    def running_mib(self) -> int:
        """MiB that pods on the node hold."""
        return sum(pod.budget_mib for pod in self.pods)


@dataclass(frozen=True)
class SetCapacity:
    """Write `to_mib` on `node`."""

    node: str
    kind: str
    from_mib: int | None
    to_mib: int


@dataclass(frozen=True)
class KeepCapacity:
    """The node shows its number already."""

    node: str
    kind: str
    at_mib: int


@dataclass(frozen=True)
class RefuseLowering:
    """Lowering the number under what runs would fail those pods at the next kubelet restart."""

    node: str
    kind: str
    from_mib: int | None
    to_mib: int
    pods: tuple[RunningPod, ...]

    def message(self) -> str:
        """Place, value, rule, repair in one line."""
        pods = ", ".join(str(pod) for pod in self.pods)
        return (
            f"node {self.node} ({self.kind}): {self.to_mib} MiB is less than the "
            f"{sum(pod.budget_mib for pod in self.pods)} MiB that run there, and the next kubelet restart would fail "
            f"them: {pods}. Release tenants first, or set capacity.drain: true to accept that."
        )


@dataclass(frozen=True)
class ReleaseCapacity:
    """Give the key back: the node carries our number but is of no declared kind any more."""

    node: str
    from_mib: int | None


CapacityAction = SetCapacity | KeepCapacity | RefuseLowering | ReleaseCapacity


def plan_capacity(settings: CapacitySettings, nodes: Sequence[NodeFacts]) -> tuple[CapacityAction, ...]:
    """What to do on each node, by node name. A second plan on the result holds only KeepCapacity.

    Raises:
        CheckFailed: a node matches two kinds, so its number is ambiguous.
    """
    actions = (_plan_node(settings, node) for node in sorted(nodes, key=lambda node: node.name))
    return tuple(action for action in actions if action is not None)


def kind_of(settings: CapacitySettings, node: NodeFacts) -> NodeCapacity | None:
    """The kind that `node` is of, or None.

    Raises:
        CheckFailed: it matches more than one.
    """
    kinds = [kind for kind in settings.nodes if kind.matches(node.name, node.labels)]
    if len(kinds) > 1:
        names = " and ".join(kind.name for kind in kinds)
        raise CheckFailed(
            f"node {node.name} matches the entries {names}; a machine belongs to one. "
            "Add a label that tells the kinds apart to their selectors."
        )
    return kinds[0] if kinds else None


def _plan_node(settings: CapacitySettings, node: NodeFacts) -> CapacityAction | None:
    kind = kind_of(settings, node)
    if kind is None:
        return ReleaseCapacity(node.name, node.capacity_mib) if node.owned else None
    wanted_mib = kind.advertised_mib
    if node.owned and node.capacity_mib == wanted_mib == node.allocatable_mib:
        return KeepCapacity(node.name, kind.name, wanted_mib)
    lowers = node.capacity_mib is not None and wanted_mib < node.capacity_mib
    if lowers and wanted_mib < node.running_mib and not settings.drain:
        return RefuseLowering(node.name, kind.name, node.capacity_mib, wanted_mib, node.pods)
    return SetCapacity(node.name, kind.name, node.capacity_mib, wanted_mib)


@dataclass(frozen=True)
class Shortfall:
    """Why the gate is closed: which kind or node, what it shows, what is wanted."""

    subject: str
    shown: str
    wanted: str

    def message(self) -> str:
        """`node t4-node: allocatable viktorbarzin.me/gpumem is absent, wanted 14000`."""
        return f"{self.subject}: {self.shown}, wanted {self.wanted}"


def shortfalls(settings: CapacitySettings, nodes: Sequence[NodeFacts]) -> tuple[Shortfall, ...]:
    """What keeps the gate closed; empty when every kind has its nodes and every node its number.

    Shares count only on a node that carries the share resource: a device plugin that is there and
    offers another number (still starting, or configured otherwise) would leave tenants Pending,
    whereas a node without one may be one that needs none (a simulated node, or shares through DRA).
    """
    found: list[Shortfall] = []
    kinds = {node.name: kind_of(settings, node) for node in nodes}
    for kind in settings.nodes:
        mine = sorted((node for node in nodes if kinds[node.name] == kind), key=lambda node: node.name)
        if len(mine) < kind.min_nodes:
            where = f"named {kind.node_name}" if kind.node_name else f"with {kind.labels}"
            shown = f"{len(mine)} node(s) {where}"
            found.append(Shortfall(f"nodes[{kind.name}]", shown, f"{kind.min_nodes}, each with {kind.advertised_mib}"))
        for node in mine:
            if node.allocatable_mib != kind.advertised_mib:
                amount = "absent" if node.allocatable_mib is None else f"{node.allocatable_mib} MiB"
                shown = f"allocatable {settings.resource} is {amount}"
                found.append(Shortfall(f"node {node.name}", shown, f"{kind.advertised_mib} MiB"))
            shares_count = node.shares.get(kind.share_resource, kind.shares_count)
            if shares_count != kind.shares_count:
                shown = f"allocatable {kind.share_resource} is {shares_count}"
                found.append(Shortfall(f"node {node.name}", shown, f"{kind.shares_count} shares"))
    return tuple(found)
