"""The estate's words on admission: device directories, required budgets, and which engine does it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsLabel, EstateModel, LabelKey, broken_rule
from helpers.domain.memory import PositiveMib

INDEX = "{index}"

# MutatingAdmissionPolicy is v1 and on by default from here on; a webhook's matchConditions, without
# which it would be asked about every pod of the cluster, are on by default from there on.
FIRST_MINOR_WITH_POLICIES = 36
FIRST_MINOR_WITH_MATCH_CONDITIONS = 28


def _device_path(value: str) -> str:
    if re.fullmatch(r"/dev(?:/[A-Za-z0-9._-]+)+", value) is None or ".." in value:
        raise broken_rule("an absolute path below /dev, without a slash at its end", "write it like /dev/nvidiactl")
    return value


def _gpu_path(value: str) -> str:
    if value.count(INDEX) != 1:
        raise broken_rule(f"the path of one card's device, with {INDEX} for its index", "write /dev/nvidia{index}")
    _device_path(value.replace(INDEX, "0"))
    return value


DevicePath = Annotated[str, AfterValidator(_device_path)]
GpuPath = Annotated[str, AfterValidator(_gpu_path)]


class DirectorySet(EstateModel):
    """What one word of the annotation mounts."""

    name: DnsLabel = Field(description="The word, such as nvidia.")
    gpu_path: GpuPath | None = Field(
        default=None, description="The device of one card, {index} for its index. Absent: the set knows no cards."
    )
    paths: tuple[DevicePath, ...] = Field(
        default=(), strict=False, description="Devices or folders that are mounted whichever card it is."
    )
    runtime_class: bool = Field(
        default=False, description="true: the pod gets the estate's runtime class, unless it names one itself."
    )

    @model_validator(mode="after")
    def _mounts_something(self) -> DirectorySet:
        if self.gpu_path is None and not self.paths:
            raise broken_rule("a set mounts something", "add paths, gpu_path, or remove the set", at="paths")
        return self


class DefaultBudget(EstateModel):
    """What a pod of one namespace gets that asks for a GPU and declares no memory."""

    namespace: DnsLabel = Field(description="The namespace.")
    budget_mib: PositiveMib = Field(description="MiB for each such pod.")


NVIDIA_SETS = (
    DirectorySet(
        name="nvidia", gpu_path="/dev/nvidia{index}", paths=("/dev/nvidiactl", "/dev/nvidia-uvm"), runtime_class=True
    ),
    DirectorySet(name="nvidia-tools", paths=("/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"), runtime_class=True),
    DirectorySet(name="coral", paths=("/dev/bus/usb",)),
)


class Admission(EstateModel):
    """What happens to pods when they are created."""

    engine: Literal["auto", "policy", "webhook"] = Field(
        default="auto",
        description="policy: rules inside the API server, from Kubernetes 1.36 on. webhook: a service of ours. "
        "auto: by kubernetes.version.",
    )
    annotation: LabelKey = Field(default="gpu-directories", description="The pod annotation that asks for devices.")
    directory_sets: tuple[DirectorySet, ...] = Field(
        default=NVIDIA_SETS, strict=False, description="What the annotation's words mount."
    )
    required_budget: Literal["off", "warn", "default", "deny"] = Field(
        default="warn",
        description="A pod that asks for a GPU and declares no GPU memory: warn, give it its namespace's default, "
        "or deny it. default denies where the namespace has none.",
    )
    default_budgets: tuple[DefaultBudget, ...] = Field(
        default=(), strict=False, description="With required_budget: default, one a namespace."
    )
    excluded_namespaces: tuple[DnsLabel, ...] = Field(
        default=("gpu-operator",),
        strict=False,
        description="Besides Kubernetes's own, this project's and gpu-system: pods there are never looked at.",
    )
    certificates: Literal["self", "cert-manager"] = Field(
        default="self", description="webhook only: who makes its certificate and renews it."
    )
