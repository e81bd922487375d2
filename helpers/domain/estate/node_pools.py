"""The estate's Karpenter node pools: which machines may be made for jobs, how many, and when they go.

One pool per kind of machine, with spot and on-demand together in it (ADR 0016): a pool's limit is
then one number, and Karpenter itself prefers spot and falls back.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel, LabelKey, UpstreamBlock, broken_rule
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE, LabelValue

CapacityType = Literal["spot", "on-demand", "reserved"]
TEN_MINUTES_SECONDS = 600
WEEK_SECONDS = 7 * 24 * 3600


def _api_version(value: str) -> str:
    if re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/v[0-9]+(?:(?:alpha|beta)[0-9]+)?", value) is None:
        raise broken_rule(
            "a node class's API, as group/version", "write it like karpenter.k8s.aws/v1, as the provider documents it"
        )
    return value


ApiVersion = Annotated[str, AfterValidator(_api_version)]
InstanceType = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Taint(EstateModel):
    """A taint of every machine of a pool, in Kubernetes's spelling."""

    key: LabelKey = Field(description="The taint's key.")
    value: LabelValue = Field(default="", description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(description="What it does to pods.")


GPU_TAINT = Taint(key=WHOLE_GPU_RESOURCE, value="true", effect="NoSchedule")


class NodeClass(EstateModel):
    """What a provider needs to make a machine; the spec is the provider's own block, passed on as it is."""

    name: DnsSubdomain = Field(description="Unique; pools name it under `node_class`.")
    api_version: ApiVersion = Field(default="karpenter.k8s.aws/v1", description="The provider's group and version.")
    kind: str = Field(default="EC2NodeClass", pattern=r"^[A-Z][A-Za-z0-9]*$", description="The provider's kind.")
    spec: UpstreamBlock = Field(description="The object's spec, in the provider's spelling.")

    @property
    def group(self) -> str:
        """The API group, as a pool refers to it."""
        return self.api_version.partition("/")[0]


class NodePool(EstateModel):
    """One kind of machine that Karpenter adds when a pod waits for it, and removes when it is empty."""

    name: DnsLabel = Field(description="Unique; every machine of it carries karpenter.sh/nodepool with this value.")
    node_class: DnsSubdomain = Field(description="An entry under node_classes.")
    instance_types: tuple[InstanceType, ...] = Field(
        min_length=1, strict=False, description="The provider's names of the machines that may be made."
    )
    capacity_types: tuple[CapacityType, ...] = Field(
        default=("spot", "on-demand"),
        min_length=1,
        strict=False,
        description="What may be bought; of several, Karpenter takes reserved, then spot, then on-demand.",
    )
    zones: tuple[str, ...] = Field(default=(), strict=False, description="Only these zones; absent: every zone.")
    architecture: Literal["amd64", "arm64"] = Field(default="amd64", description="Of the machines.")
    gpu_limit_count: int = Field(ge=1, le=100_000, description="GPUs that the pool's machines may have together.")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="Further labels of every machine.")
    taints: tuple[Taint, ...] = Field(
        default=(GPU_TAINT,), strict=False, description="Absent: nvidia.com/gpu=true:NoSchedule."
    )
    empty_after_seconds: int = Field(
        default=TEN_MINUTES_SECONDS, ge=0, le=WEEK_SECONDS, description="A machine goes when no pod needs it so long."
    )
    expire_after_seconds: int | None = Field(
        default=WEEK_SECONDS,
        ge=3600,
        description="A machine takes no new pods from this age on and goes when its last job ended; null: never.",
    )
    weight: int | None = Field(default=None, ge=1, le=100, description="Among pools that fit a pod the higher wins.")
    mig_config: DnsSubdomain | None = Field(
        default=None, description="An entry under mig.configs: how the MIG manager splits these machines' cards."
    )

    @model_validator(mode="after")
    def _labels_are_not_the_pools_own(self) -> NodePool:
        for key in self.labels:
            if key.partition("/")[0] == "karpenter.sh" or key == "kubernetes.io/hostname":
                raise broken_rule(
                    f"{key} is Karpenter's own to set", "remove it; capacity_types and name say it", at="labels"
                )
        return self


def duration_text(seconds: int) -> str:
    """`600` → `10m`: whole hours, minutes or seconds, as Karpenter's durations are written."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
