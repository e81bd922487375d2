"""The estate's words on measuring and recycling: the watchdog's policy, a tenant's own, the exporter's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from helpers.domain.estate.base import DnsLabel, EstateModel, broken_rule
from helpers.domain.memory import PositiveMib

Seconds = Annotated[float, Field(ge=0, le=86_400)]


class ReleaseHook(EstateModel):
    """How a running tenant is asked to free memory: one HTTP request to its pod, or a command in its container.

    Answering is not freeing (Ollama answers first), so memory is measured again for up to
    `remeasure_seconds`.
    """

    port: int | None = Field(default=None, ge=1, le=65535, description="Port of the pod that the request goes to.")
    method: Literal["GET", "POST", "DELETE"] = Field(default="POST", description="The request's method.")
    path: str = Field(default="/", pattern=r"^/", description="The request's path, such as /api/generate or /sleep.")
    body: str = Field(default="", description="The request's body, JSON where the server wants that.")
    command: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Instead of a request: a command and its arguments, run in the workload's container without a "
        "shell. Needs watchdog.allow_exec.",
    )
    timeout_seconds: Seconds = Field(default=5.0, description="How long the answer may take.")
    remeasure_seconds: Seconds = Field(default=10.0, description="How long freed memory is looked for.")

    @model_validator(mode="after")
    def _one_way(self) -> ReleaseHook:
        if (self.port is None) == (not self.command):
            raise broken_rule(
                "a release hook is exactly one of port (an HTTP request) and command",
                "give port with method, path and body, or command",
            )
        return self


class TenantWatchdog(EstateModel):
    """What the watchdog is told about one tenant."""

    dry_run: bool | None = Field(
        default=None, description="true, false: for this tenant alone. Absent: as the whole watchdog."
    )
    protected: bool = Field(default=False, description="true: its pods are never recycled; pressure is only reported.")
    allow_daemon_set: bool = Field(default=False, description="true: pods of this DaemonSet may be recycled.")
    release_hook: ReleaseHook | None = Field(
        default=None, description="How it is asked to free memory before its pod is evicted. Absent: it is not asked."
    )


class Watchdog(EstateModel):
    """When a tenant over its budget may be recycled."""

    floor_mib: PositiveMib = Field(description="Free MiB on a card under which there is pressure.")
    dry_run: bool = Field(default=True, description="true: only say what would be done.")
    interval_seconds: float = Field(default=5.0, ge=1, le=300, description="Seconds between two looks at the cards.")
    stale_after_intervals: int = Field(
        default=3, ge=1, le=20, description="Intervals after which a sample is no proof any more."
    )
    confirm_seconds: Seconds = Field(default=1.0, description="Seconds between the two looks that an act needs.")
    cooldown_seconds: Seconds = Field(
        default=300.0, description="Seconds after a recycle in which the same tenant is left alone."
    )
    recycles_per_hour_tenant: int = Field(default=3, ge=0, le=1000, description="Most recycles of a tenant an hour.")
    recycles_per_hour: int = Field(default=10, ge=0, le=10_000, description="Most recycles in all an hour.")
    unbudgeted: Literal["report", "evict"] = Field(
        default="report", description="Pods on a shared card without a budget. evict: as if their budget were 0."
    )
    allow_bare_pods: bool = Field(default=False, description="true: pods without a controller may be evicted for good.")
    allow_delete: bool = Field(default=False, description="true: the watchdog gets the right to delete pods.")
    allow_exec: bool = Field(
        default=False,
        description="true: release hooks may be commands; the watchdog gets the right to exec into pods, in the "
        "namespaces of tenants with such a hook and nowhere else.",
    )
    on_blocked: Literal["give_up", "delete"] = Field(
        default="give_up", description="When a PodDisruptionBudget never yields; delete needs allow_delete."
    )
    eviction_timeout_seconds: Seconds = Field(
        default=60.0, description="How long a PodDisruptionBudget's refusal is waited out."
    )
    protected_namespaces: tuple[DnsLabel, ...] = Field(
        default=("kube-system",), strict=False, description="Namespaces whose pods are never recycled."
    )

    @model_validator(mode="after")
    def _delete_is_allowed_where_it_is_chosen(self) -> Watchdog:
        if self.on_blocked == "delete" and not self.allow_delete:
            raise broken_rule(
                "on_blocked: delete deletes pods, which allow_delete: true must allow",
                "set allow_delete: true, or on_blocked: give_up",
                at="on_blocked",
            )
        return self


class Exporter(EstateModel):
    """Where measured use comes from."""

    source: Literal["nvml", "dcgm"] = Field(
        default="nvml", description="nvml: the driver. dcgm: a dcgm-exporter that is there anyway."
    )
    dcgm_port: int = Field(default=9400, ge=1, le=65535, description="dcgm-exporter's port on each node.")
    dcgm_collection_seconds: float = Field(default=30.0, gt=0, le=3600, description="Its collection interval (`-c`).")
    interval_seconds: float = Field(default=1.0, ge=0.1, le=60, description="Seconds between two rounds of reading.")
