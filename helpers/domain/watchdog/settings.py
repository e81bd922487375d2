"""The watchdog's one settings document, which the Deployment, `replay` and `arm` all read as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.estate.watchdog import ReleaseHook, Seconds
from helpers.domain.memory import PositiveMib


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TenantRule(_Settings):
    """What the watchdog knows of one declared tenant. `dry_run` None: as the whole watchdog.

    `budget_mib` is the estate's, for traces that do not show one; a running watchdog goes by what
    the pod itself declares, so its mounted document holds none (a changed budget restarts nothing).
    """

    name: str
    namespace: str
    kind: str
    workload: str
    container: str
    budget_mib: PositiveMib | None = None
    workload_class: str = "realtime"
    dry_run: bool | None = None
    protected: bool = False
    allow_daemon_set: bool = False
    release_hook: ReleaseHook | None = None

    def owns_pod(self, namespace: str, pod: str) -> bool:
        """Whether a pod of that name is this tenant's, by the name that its controller gives it.

        For traces, which know no owners; a live pod's owner is read from the API.
        """
        return namespace == self.namespace and names.is_pod_of(self.kind, self.workload, pod)


class WatchdogSettings(_Settings):
    """When and how a tenant over its budget is recycled.

    Ages, spans and timeouts are seconds; `stale_after_intervals` says from when on a sample is no
    proof any more; `future_tolerance_seconds` is the skew between the clocks of two machines that
    is still believed. `cooldown_seconds` and the two hourly caps hold per subject (tenant) and over
    all. `unbudgeted: evict` treats a pod that declares nothing as one with a budget of 0.
    """

    floor_mib: PositiveMib
    dry_run: bool = True
    interval_seconds: float = Field(default=5.0, ge=1, le=300)
    stale_after_intervals: int = Field(default=3, ge=1, le=20)
    future_tolerance_seconds: Seconds = 1.0
    # Two looks at least this far apart before an act; within the 8 s from pressure to free memory.
    confirm_seconds: Seconds = 1.0
    cooldown_seconds: Seconds = 300.0
    recycles_per_hour_tenant: int = Field(default=3, ge=0, le=1000)
    recycles_per_hour: int = Field(default=10, ge=0, le=10_000)
    unbudgeted: Literal["report", "evict"] = "report"
    allow_bare_pods: bool = False
    allow_delete: bool = False
    allow_exec: bool = False
    on_blocked: Literal["give_up", "delete"] = "give_up"
    # A PodDisruptionBudget's 429 is waited out this long, asked again every `eviction_retry_seconds`.
    eviction_timeout_seconds: Seconds = 60.0
    eviction_retry_seconds: Seconds = 5.0
    # After an accepted eviction, the pod's own grace period included.
    gone_timeout_seconds: Seconds = 120.0
    # After the pod is gone: how long a sample that shows the memory is waited for.
    measure_timeout_seconds: Seconds = 15.0
    protected_namespaces: tuple[str, ...] = ("kube-system",)
    tenants: tuple[TenantRule, ...] = ()

    @model_validator(mode="after")
    def _delete_is_allowed_where_it_is_chosen(self) -> WatchdogSettings:
        if self.on_blocked == "delete" and not self.allow_delete:
            msg = "on_blocked: delete needs allow_delete: true"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _commands_are_allowed_where_they_are_given(self) -> WatchdogSettings:
        for rule in self.tenants:
            if rule.release_hook is not None and rule.release_hook.command and not self.allow_exec:
                msg = f"the release hook of {rule.name} is a command, which needs allow_exec: true"
                raise ValueError(msg)
        return self

    @property
    def stale_after_seconds(self) -> float:
        """The greatest age at which a sample still counts."""
        return self.interval_seconds * self.stale_after_intervals

    def rule(self, tenant: str | None) -> TenantRule | None:
        """The rule of the tenant called `tenant`, or None."""
        return next((rule for rule in self.tenants if rule.name == tenant), None) if tenant is not None else None

    def rule_for_pod(self, namespace: str, pod: str) -> TenantRule | None:
        """The tenant to which a pod of that name belongs, by its name alone, or None.

        The longest workload name wins, since `a` and `a-b` may both match `a-b-x1y2z`.
        """
        owners = [rule for rule in self.tenants if rule.owns_pod(namespace, pod)]
        return max(owners, key=lambda rule: len(rule.workload), default=None)

    def armed(self) -> WatchdogSettings:
        """The same settings with every dry_run off: what replay simulates."""
        tenants = tuple(rule.model_copy(update={"dry_run": None}) for rule in self.tenants)
        return self.model_copy(update={"dry_run": False, "tenants": tenants})

    def without_budgets(self) -> WatchdogSettings:
        """What a running watchdog is given."""
        tenants = tuple(rule.model_copy(update={"budget_mib": None}) for rule in self.tenants)
        return self.model_copy(update={"tenants": tenants})

    def to_json(self) -> str:
        """One line, keys sorted: the same estate gives the same text for ever."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def watchdog_settings(estate: Estate, rules: Sequence[TenantRule] | None = None) -> WatchdogSettings:
    """The settings document of `estate`; `rules` stands in for what its tenants say."""
    tenants = tuple(rules) if rules is not None else tenant_rules(estate)
    return WatchdogSettings(**estate.watchdog.model_dump(), tenants=tenants)


def tenant_rules(estate: Estate) -> tuple[TenantRule, ...]:
    """One rule a tenant, in the estate's order."""
    return tuple(
        TenantRule(
            name=tenant.name,
            namespace=tenant.namespace,
            kind=tenant.workload.kind,
            workload=tenant.workload.name,
            container=tenant.workload.container,
            budget_mib=tenant.budget_mib,
            workload_class=tenant.workload_class,
            dry_run=tenant.watchdog.dry_run,
            protected=tenant.watchdog.protected,
            allow_daemon_set=tenant.watchdog.allow_daemon_set,
            release_hook=tenant.watchdog.release_hook,
        )
        for tenant in estate.tenants
    )
