"""The estate's review policy: what a change may not do without somebody saying so."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from helpers.domain.estate.base import EstateModel

FindingKind = Literal[
    "over_commit",
    "always_on_pending",
    "card_over_commit",
    "below_measured_use",
    "capacity_refused",
    "quota_blocks",
    "capacity_drained",
    "rollout_hangs",
    "protected_restart",
    "eviction",
    "tenant_removed",
    "tenant_renamed",
    "workload_replaced",
    "handover",
    "resource_renamed",
    "node_removed",
    "elastic_pending",
    "restart",
    "policy_changed",
    "helper_restart",
    "measured_unknown",
]
"""What a review can find, the gravest first."""

FINDING_KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


class Review(EstateModel):
    """What stops a change of this estate. A change is judged by the policy that stood before it."""

    stop_on: tuple[FindingKind, ...] = Field(
        default=(
            "over_commit",
            "always_on_pending",
            "card_over_commit",
            "below_measured_use",
            "capacity_refused",
            "quota_blocks",
        ),
        strict=False,
        description="Findings that make `gpumem review` exit 1; the guide on reviews explains each.",
    )
