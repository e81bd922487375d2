"""The estate's tenants: workloads on a shared card and the memory each may use."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field, model_validator

from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel, LabelKey, UpstreamBlock, broken_rule
from helpers.domain.estate.framework import Framework
from helpers.domain.estate.health import Health
from helpers.domain.estate.nodes import LabelValue
from helpers.domain.estate.watchdog import TenantWatchdog
from helpers.domain.memory import PositiveMib

# Kubernetes's defaults for a Deployment's rolling update (apps/v1 defaults.go).
_DEFAULT_SURGE = "25%"
_DEFAULT_UNAVAILABLE = "25%"


class Workload(EstateModel):
    """The object whose pods are the tenant, and the container that holds the card."""

    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] = Field(description="The workload's kind.")
    name: DnsSubdomain = Field(description="The workload's name in the cluster.")
    container: DnsLabel = Field(description="The container that gets the budget; a pod's budget is in one place.")


class RollingUpdate(EstateModel):
    """A rolling update's bounds in Kubernetes's own spelling: pods, or a percentage of replicas."""

    maxSurge: int | str | None = Field(  # noqa: N815 - Kubernetes's own field name
        default=None, description="Pods above replicas while updating; absent: 25%, rounded up."
    )
    maxUnavailable: int | str | None = Field(  # noqa: N815 - Kubernetes's own field name
        default=None, description="Pods below replicas while updating; absent: 25%, rounded down."
    )


class Strategy(EstateModel):
    """How the workload's pods are replaced, in Kubernetes's own spelling."""

    type: Literal["Recreate", "RollingUpdate"] = Field(description="Recreate stops all pods before it starts new ones.")
    rollingUpdate: RollingUpdate | None = Field(  # noqa: N815 - Kubernetes's own field name
        default=None, description="RollingUpdate only: its bounds."
    )

    @model_validator(mode="after")
    def _bounds_are_readable(self) -> Strategy:
        if self.type == "Recreate" and self.rollingUpdate is not None:
            repair = "remove rollingUpdate or use type: RollingUpdate"
            raise broken_rule("Recreate takes no rollingUpdate", repair, at="rollingUpdate")
        bounds = self.rollingUpdate or RollingUpdate()
        for name, bound in (("maxSurge", bounds.maxSurge), ("maxUnavailable", bounds.maxUnavailable)):
            if bound is not None and not _is_bound(bound):
                raise broken_rule(
                    "a number of pods, 0 or more, or a percentage",
                    'write 1, or "25%"',
                    at=f"rollingUpdate.{name}",
                )
        if _number(bounds.maxUnavailable) > 100 and isinstance(bounds.maxUnavailable, str):
            raise broken_rule("at most 100%", 'write "100%" or less', at="rollingUpdate.maxUnavailable")
        if _number(bounds.maxSurge) == _number(bounds.maxUnavailable) == 0:
            raise broken_rule(
                "maxSurge and maxUnavailable may not both be 0: no pod could ever be replaced",
                "set maxUnavailable: 1",
                at="rollingUpdate",
            )
        return self


class Model(EstateModel):
    """A model that the tenant loads, and the memory it takes while loaded."""

    name: str = Field(min_length=1, description="The model as the tenant's own API calls it.")
    vram_mib: PositiveMib = Field(description="MiB that it takes while loaded, context included.")


class Tenant(EstateModel):
    """One workload on a shared card."""

    name: DnsLabel = Field(description="Unique; TENANT on the command line.")
    namespace: DnsLabel = Field(description="The workload's namespace.")
    workload: Workload = Field(description="The object whose pods are the tenant.")
    node: str = Field(description="The `name` of an entry under nodes.")
    gpu_model: str | None = Field(default=None, description="Only cards of this model; absent: any card there.")
    apply: Literal["create", "patch", "admission"] = Field(
        description="create: the whole workload is rendered. patch: somebody else owns it; "
        "only the budget's fields are put in, and given back on destroy. "
        "admission: somebody else owns it; each new pod gets the budget at its creation."
    )
    pod_labels: dict[LabelKey, LabelValue] | None = Field(
        default=None,
        min_length=1,
        description="admission, and patch with a framework: labels by which its pods are known in the namespace.",
    )
    budget_mib: PositiveMib = Field(description="MiB that one pod may use.")
    shares: int = Field(default=1, ge=0, description="Device-plugin shares one pod asks for; 0: none.")
    replicas: int | None = Field(default=None, ge=1, le=10000, description="Pods; absent: 1 (DaemonSet: one a node).")
    elastic: bool = Field(default=False, description="true: may stay Pending, and is not in the always-on sum.")
    workload_class: Literal["realtime", "batch"] = Field(
        alias="class", description="realtime: a person waits for it. batch: it can wait."
    )
    priority: str | None = Field(default=None, description="The `name` of an entry under priority_classes.")
    strategy: Strategy | None = Field(
        default=None,
        description="create: how we render it (absent: Recreate for one replica, else no surge). "
        "patch, admission: what the owner's manifest says (absent: Kubernetes's default).",
    )
    models: tuple[Model, ...] = Field(
        default=(), strict=False, description="Models that it loads; the budget must hold them."
    )
    models_loaded: Literal["one", "all"] = Field(
        default="all", description="Whether the tenant keeps one model in memory at a time, or all."
    )
    framework: Framework | None = Field(
        default=None, description="What runs in the container, so that it is told its budget. Absent: it is not."
    )
    watchdog: TenantWatchdog = Field(
        default_factory=TenantWatchdog, description="What the watchdog is told about this tenant."
    )
    health: Health | None = Field(
        default=None, description="What `gpumem health` asks of it. Absent: only whether its pods run."
    )
    pod: UpstreamBlock | None = Field(default=None, description="create only: the PodSpec, in Kubernetes's spelling.")

    @model_validator(mode="after")
    def _parts_agree(self) -> Tenant:
        if self.apply == "create" and self.pod is None:
            rule = "create renders the whole workload, so it needs `pod`"
            raise broken_rule(rule, "add pod: {containers: …}, or use apply: patch", at="apply")
        if self.apply != "create" and self.pod is not None:
            raise broken_rule(
                f"apply: {self.apply} leaves the workload to its owner, so `pod` would do nothing",
                "remove pod, or use apply: create",
                at="pod",
            )
        if self.workload.kind == "DaemonSet" and self.replicas is not None:
            rule = "a DaemonSet runs one pod a node, so replicas is not given"
            raise broken_rule(rule, "remove replicas", at="replicas")
        if self.strategy is not None and self.workload.kind != "Deployment":
            rule = "strategy is a Deployment's; other kinds replace pods without surge"
            raise broken_rule(rule, "remove strategy", at="strategy")
        return self

    @model_validator(mode="after")
    def _pods_can_be_known(self) -> Tenant:
        if self.apply == "create" and self.pod_labels is not None:
            rule = "the pods of apply: create carry labels of ours already, so pod_labels would do nothing"
            raise broken_rule(rule, "remove pod_labels", at="pod_labels")
        if self.apply == "patch" and self.framework is None and self.pod_labels is not None:
            rule = "apply: patch without a framework does nothing to pods, so pod_labels would do nothing"
            raise broken_rule(rule, "remove pod_labels, add framework, or use apply: admission", at="pod_labels")
        if self.pod_labels is None and (self.apply == "admission" or (self.apply == "patch" and self.framework)):
            what = "sets the budget" if self.apply == "admission" else "tells the framework its budget"
            rule = f"admission {what} on pods that it knows by their labels"
            raise broken_rule(rule, "add pod_labels: {app: …}, as the pods carry them", at="apply")
        return self

    @model_validator(mode="after")
    def _budget_leaves_room(self) -> Tenant:
        overhead_mib = self.framework.overhead_mib if self.framework else None
        if overhead_mib is not None and overhead_mib >= self.budget_mib:
            raise broken_rule(
                f"the overhead is part of the budget, which is {self.budget_mib} MiB",
                f"set overhead_mib below {self.budget_mib}, or raise budget_mib",
                at="framework.overhead_mib",
            )
        return self

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies the workload in a cluster: namespace, kind, name."""
        return (self.namespace, self.workload.kind, self.workload.name)

    @property
    def replicas_count(self) -> int:
        """Declared replicas, 1 where none are given (a DaemonSet's pods are counted by node)."""
        return self.replicas if self.replicas is not None else 1

    def effective_strategy(self) -> Strategy | None:
        """The strategy that holds in the cluster; None for kinds that have none."""
        if self.workload.kind != "Deployment" or self.strategy is not None:
            return self.strategy
        if self.apply != "create":
            bounds = RollingUpdate(maxSurge=_DEFAULT_SURGE, maxUnavailable=_DEFAULT_UNAVAILABLE)
            return Strategy(type="RollingUpdate", rollingUpdate=bounds)
        if self.replicas_count == 1:
            return Strategy(type="Recreate")
        return Strategy(type="RollingUpdate", rollingUpdate=RollingUpdate(maxSurge=0, maxUnavailable=1))

    def surge_count(self) -> int:
        """Pods above `replicas` that a rolling update starts."""
        return self._surge_and_unavailable()[0]

    def rolls_without_room(self) -> bool:
        """Whether a rolling update may stop an old pod before the new one runs."""
        return self._surge_and_unavailable()[1] > 0

    def _surge_and_unavailable(self) -> tuple[int, int]:
        strategy = self.effective_strategy()
        if strategy is None or strategy.type == "Recreate":
            return (0, 1)
        bounds = strategy.rollingUpdate or RollingUpdate()
        surge = _DEFAULT_SURGE if bounds.maxSurge is None else bounds.maxSurge
        unavailable = _DEFAULT_UNAVAILABLE if bounds.maxUnavailable is None else bounds.maxUnavailable
        # Kubernetes rounds surge up and unavailable down, and where both come to 0 it stops one pod
        # after all (deployment_util.go, ResolveFenceposts).
        surge_count = _pods_of(surge, self.replicas_count, round_up=True)
        unavailable_count = _pods_of(unavailable, self.replicas_count, round_up=False)
        return (surge_count, unavailable_count or int(surge_count == 0))


def _is_bound(bound: int | str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}%", bound) is not None if isinstance(bound, str) else bound >= 0


def _number(bound: int | str | None) -> int:
    """The bound's bare number; absent is Kubernetes's own 25 %."""
    return 25 if bound is None else int(str(bound).removesuffix("%"))


def _pods_of(bound: int | str, replicas: int, *, round_up: bool) -> int:
    if isinstance(bound, int):
        return bound
    hundredths = int(bound[:-1]) * replicas
    return math.ceil(hundredths / 100) if round_up else hundredths // 100
