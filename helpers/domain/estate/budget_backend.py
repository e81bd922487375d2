"""The estate's `budget` block: what a budget is counted by, estate-wide and for one kind of node."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.domain.estate.base import EstateModel

# DRAConsumableCapacity is beta and on by default from here on (and the API v1 since 1.34).
FIRST_MINOR_WITH_SHARED_DEVICES = 36

CountedBy = Literal["extendedResource", "dra"]
Backend = Literal["extendedResource", "dra", "auto"]
Publisher = Literal["agent", "nvidia"]

_BACKEND = (
    "extendedResource: one number a node, which two cards can over-commit. dra: a claim on one card, from "
    "Kubernetes 1.36 on. auto: dra where kubernetes.version has it."
)


class NodeBudget(EstateModel):
    """What budgets on this kind of node are counted by."""

    backend: Backend = Field(description=f"Instead of budget.backend, for this kind of node. {_BACKEND}")


class Budgets(EstateModel):
    """What budgets are counted by."""

    backend: Backend = Field(default="extendedResource", description=_BACKEND)
    published_by: Publisher = Field(
        default="agent",
        description="dra only: who publishes the cards. agent: this project's DaemonSet. nvidia: NVIDIA's DRA driver "
        "with consumableShares: memory; the agent is not rendered then.",
    )


def counted_by(backend: Backend, minor_version: int) -> CountedBy:
    """What `backend` comes to on Kubernetes 1.`minor_version`."""
    if backend == "auto":
        return "dra" if minor_version >= FIRST_MINOR_WITH_SHARED_DEVICES else "extendedResource"
    return backend
