"""How an engine's queues share what projects do not use."""

from __future__ import annotations

from pydantic import Field

from helpers.domain.estate.base import DnsSubdomain, EstateModel


class Queues(EstateModel):
    """Of engine kueue or volcano; each project gets a queue of its own."""

    cohort: DnsSubdomain = Field(default="gpumem", description="kueue: projects of one cohort lend to each other.")
    borrowing_gpu_count: int | None = Field(
        default=None,
        ge=0,
        description="GPUs that a project may borrow beyond its own; absent: all that others leave unused.",
    )
    provisioning_class: DnsSubdomain | None = Field(
        default=None,
        description="kueue: admission waits for a ProvisioningRequest of this class. Not with node_pools: "
        "Karpenter answers none.",
    )
