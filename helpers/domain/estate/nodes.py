"""The estate's nodes: their cards, how they are shared, how they are found."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import (
    DnsLabel,
    DnsSubdomain,
    EstateModel,
    LabelKey,
    UpstreamBlock,
    broken_rule,
)
from helpers.domain.estate.budget_backend import NodeBudget
from helpers.domain.estate.mig_cards import MigCard
from helpers.domain.memory import Mib, PositiveMib
from helpers.domain.names import LABEL_VALUE

WHOLE_GPU_RESOURCE = "nvidia.com/gpu"


def _label_value(value: str) -> str:
    if re.fullmatch(LABEL_VALUE, value) is None:
        raise broken_rule(
            "a label value: at most 63 letters, digits, dashes, underscores, dots; a letter or digit at both ends",
            "use the value as `kubectl get nodes --show-labels` shows it",
        )
    return value


LabelValue = Annotated[str, AfterValidator(_label_value)]


class Gpu(EstateModel):
    """Cards of one model in a node."""

    model: str = Field(min_length=1, description="The card's name as nvidia-smi prints it.")
    count: int = Field(ge=1, le=64, description="Cards of this model in one node.")
    physical_mib: PositiveMib = Field(
        description="Framebuffer of one card in MiB: `nvidia-smi --query-gpu=memory.total --format=csv`."
    )
    reserve_mib: Mib = Field(
        description="MiB of one card that driver, contexts and exporters take; never promised to tenants."
    )

    mig: MigCard | None = Field(
        default=None, description="backend: dra only: static MIG instances, of which each is seated like a card."
    )

    def sizes_mib(self) -> tuple[tuple[int, int], ...]:
        """Physical and advertised MiB of what one card offers to pods: itself, or its MIG instances."""
        return self.mig.sizes_mib() if self.mig else ((self.physical_mib, self.physical_mib - self.reserve_mib),)

    @property
    def advertised_mib(self) -> int:
        """MiB of one card that tenants may be promised."""
        return sum(advertised_mib for _, advertised_mib in self.sizes_mib())

    @property
    def largest_mib(self) -> int:
        """The most that one pod can have of one card."""
        return max(advertised_mib for _, advertised_mib in self.sizes_mib())

    @model_validator(mode="after")
    def _reserve_leaves_memory(self) -> Gpu:
        if self.reserve_mib >= self.physical_mib:
            raise broken_rule(
                f"what is advertised (physical_mib {self.physical_mib} - reserve_mib {self.reserve_mib}) "
                "must be more than 0 and at most physical_mib",
                "give reserve_mib what the driver and contexts really take, some hundred MiB",
                at="reserve_mib",
            )
        return self


class SharedResource(EstateModel):
    """One resource that the device plugin replicates (its own field names)."""

    name: LabelKey = Field(description="Resource to share, nvidia.com/gpu unless MIG is in use.")
    replicas: int = Field(ge=2, le=1024, description="Shares a card is offered as; the plugin wants 2 or more.")


class TimeSlicing(EstateModel):
    """The device plugin's `sharing.timeSlicing` block, in its own spelling."""

    renameByDefault: bool = Field(  # noqa: N815 - the device plugin's own field name
        default=False, description="true: shares are offered as <name>.shared and the original becomes 0."
    )
    failRequestsGreaterThanOne: bool = Field(  # noqa: N815 - the device plugin's own field name
        default=False, description="true: a pod that asks for more than one share is refused by the plugin."
    )
    resources: tuple[SharedResource, ...] = Field(
        min_length=1, strict=False, description="What is shared, and into how many shares."
    )


class Sharing(EstateModel):
    """The device plugin's `sharing` block."""

    timeSlicing: TimeSlicing = Field(  # noqa: N815 - the device plugin's own field name
        description="Pods take turns on the card; memory is not divided."
    )


class Node(EstateModel):
    """One kind of GPU node: one machine by name, or all machines that a selector matches."""

    name: DnsLabel = Field(description="Unique; tenants and reports use it.")
    node_name: DnsSubdomain | None = Field(default=None, description="The one node's Kubernetes name.")
    selector: dict[LabelKey, LabelValue] | None = Field(
        default=None, min_length=1, description="Labels that every node of this kind carries."
    )
    min_nodes: int = Field(
        default=1,
        ge=0,
        le=5000,
        description="Nodes that are always there. 0: an elastic pool; the gate passes without it.",
    )
    gpus: tuple[Gpu, ...] = Field(
        min_length=1, strict=False, description="The cards in one such node, one entry a model."
    )
    sharing: Sharing | None = Field(
        default=None, description="The device plugin's own block. Absent: a card is one share."
    )
    budget: NodeBudget | None = Field(
        default=None, description="What budgets here are counted by. Absent: as estate-wide."
    )
    tolerations: tuple[UpstreamBlock, ...] = Field(
        default=(), strict=False, description="What pods for these nodes must tolerate, in Kubernetes's spelling."
    )

    @model_validator(mode="after")
    def _found_one_way(self) -> Node:
        if (self.node_name is None) == (self.selector is None):
            raise broken_rule(
                "a node is found by exactly one of node_name and selector",
                "keep node_name for one machine, or selector for all machines with those labels",
                at="node_name",
            )
        if self.node_name is not None and self.min_nodes > 1:
            raise broken_rule(
                "node_name is one machine, so min_nodes is 0 or 1",
                "use selector for several machines, or set min_nodes: 1",
                at="min_nodes",
            )
        return self

    @property
    def advertised_mib(self) -> int:
        """MiB that one node of this kind advertises: all its cards."""
        return sum(gpu.count * gpu.advertised_mib for gpu in self.gpus)

    @property
    def physical_mib(self) -> int:
        """MiB of framebuffer in one node of this kind."""
        return sum(gpu.count * gpu.physical_mib for gpu in self.gpus)

    @property
    def largest_card_mib(self) -> int:
        """Advertised MiB of the largest single card."""
        return max(gpu.largest_mib for gpu in self.gpus)

    def cards_mib(self) -> tuple[int, ...]:
        """Advertised MiB of each card, or MIG instance, of one node, in their order."""
        return tuple(mib for gpu in self.gpus for _ in range(gpu.count) for _, mib in gpu.sizes_mib())

    @property
    def card_count(self) -> int:
        """Cards in one node of this kind."""
        return sum(gpu.count for gpu in self.gpus)

    def _shared(self) -> SharedResource | None:
        return self.sharing.timeSlicing.resources[0] if self.sharing else None

    @property
    def replicas_per_card(self) -> int:
        """Shares that the device plugin makes of one card."""
        shared = self._shared()
        return shared.replicas if shared else 1

    def shares_count(self) -> int:
        """Shares that one node of this kind offers: cards times replicas."""
        return self.card_count * self.replicas_per_card

    def share_resource(self) -> str:
        """The resource name under which the device plugin offers the shares."""
        shared = self._shared()
        if shared is None:
            return WHOLE_GPU_RESOURCE
        renamed = self.sharing is not None and self.sharing.timeSlicing.renameByDefault
        return f"{shared.name}.shared" if renamed else shared.name

    def shared_resources(self) -> tuple[str, ...]:
        """Every name under which this node offers turns of a card."""
        if self.sharing is None:
            return ()
        slicing = self.sharing.timeSlicing
        return tuple(f"{one.name}.shared" if slicing.renameByDefault else one.name for one in slicing.resources)

    def gpu_resources(self) -> tuple[str, ...]:
        """Every name by which a pod can ask for a GPU of this node: what is shared, and what it is made from."""
        originals = [one.name for one in self.sharing.timeSlicing.resources] if self.sharing else [WHOLE_GPU_RESOURCE]
        return tuple(dict.fromkeys([*originals, *self.shared_resources()]))

    def node_selector(self) -> dict[str, str]:
        """Labels that choose these nodes, for a pod's nodeSelector."""
        if self.node_name is not None:
            return {"kubernetes.io/hostname": self.node_name}
        return dict(sorted((self.selector or {}).items()))
