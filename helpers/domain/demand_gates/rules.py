"""What one demand gate decides by, made from the estate: part of the coordinator's settings document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from helpers.domain import names
from helpers.domain.budget import WorkloadIdentity, workload_identity
from helpers.domain.estate.demand_gates import DemandGate
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.lanes.windows import is_open, next_change_at

# Above the free memory at which a gate closes, so that its own small allocations do not close it.
_SPARE_MIB = 256


class GateRule(BaseModel):
    """A gate with its tenant's workload and with every absent number filled in.

    Attributes:
        need_mib: What it is granted before it opens.
        margin_mib: What must be free above that.
        close_free_mib: Under so much free memory it closes.
        released_annotation: The annotation by which `release` marks a workload.
        jobs_lane: The lane whose jobs are the use; None: it is of use whenever it may run.
        lease_lane: The lane of its tenant in which its lease stands in the book; None: it stands in none.
        lease_wait_seconds: How long a question for it waits before it is asked anew.
        lane_windows: The windows of its lane: it closes with them as with its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: DemandGate
    workload: WorkloadIdentity
    node: str
    need_mib: int
    margin_mib: int
    close_free_mib: int
    released_annotation: str
    jobs_lane: str | None = None
    lease_lane: str | None = None
    lease_wait_seconds: float = 0.0
    lane_windows: tuple[LaneWindow, ...] = ()

    @property
    def name(self) -> str:
        """The gate's name."""
        return self.gate.name

    @property
    def opens_at_mib(self) -> int:
        """The free MiB from which it may open."""
        return self.need_mib + self.margin_mib

    def used_mib(self, pods_mib: Mapping[tuple[str, str], int]) -> int:
        """What its workload's pods use, of `{(namespace, pod): MiB}`."""
        one = self.workload
        return sum(
            mib
            for (namespace, pod), mib in pods_mib.items()
            if namespace == one.namespace and names.is_pod_of(one.kind, one.workload, pod)
        )

    def may_run(self, at: datetime) -> bool:
        """Whether one of its windows is open at `at`, and one of its lane's."""
        return is_open(self.gate.windows, at) and is_open(self.lane_windows, at)

    def next_change_at(self, at: datetime) -> datetime | None:
        """When one of the two changes next; None where none ever does."""
        changes = [next_change_at(windows, at) for windows in (self.gate.windows, self.lane_windows)]
        return min((one for one in changes if one is not None), default=None)


def gate_rules(estate: Estate, engine: str) -> tuple[GateRule, ...]:
    """The gates of a valid `estate` that `engine` scales, in the estate's order."""
    block = estate.coordinator
    gates = block.demand_gates if block is not None else ()
    return tuple(_rule(estate, gate) for gate in gates if gate.engine == engine)


def is_gated(estate: Estate, tenant: str) -> bool:
    """Whether a gate of the coordinator scales `tenant`, and not only says what it would do."""
    rules = gate_rules(estate, "coordinator")
    return any(rule.workload.tenant == tenant and not rule.gate.dry_run for rule in rules)


def release_note(estate: Estate, tenant: str) -> str:
    """What a person who releases `tenant` must do besides; empty: nothing."""
    for rule in gate_rules(estate, "keda"):
        if rule.workload.tenant == tenant and not rule.gate.dry_run:
            what = f"scaledobject {names.scaled_object_name(rule.name)} {names.KEDA_PAUSED_ANNOTATION}=true"
            command = f"kubectl -n {rule.workload.namespace} annotate {what}"
            return f"KEDA scales {tenant} and knows no release; it stays released only with: {command}"
    return ""


def first_replicas(estate: Estate, tenant: Tenant) -> int:
    """Replicas that a rendered workload gets when it is made: a gated one waits for its gate."""
    rules = (*gate_rules(estate, "coordinator"), *gate_rules(estate, "keda"))
    gated = any(rule.workload.tenant == tenant.name and not rule.gate.dry_run for rule in rules)
    return 0 if gated else tenant.replicas_count


def close_free_mib(estate: Estate, gate: DemandGate) -> int:
    """The free MiB under which `gate` closes."""
    return estate.watchdog.floor_mib if gate.close_free_mib is None else gate.close_free_mib


def margin_mib(estate: Estate, gate: DemandGate) -> int:
    """The MiB that must be free above the need of `gate`."""
    return close_free_mib(estate, gate) + _SPARE_MIB if gate.margin_mib is None else gate.margin_mib


def _rule(estate: Estate, gate: DemandGate) -> GateRule:
    tenant = estate.tenant(gate.tenant)
    block = estate.coordinator
    if tenant is None or block is None:
        raise KeyError(gate.tenant)  # validate excludes that
    lane = next((one for one in block.lanes if one.name == gate.lane), None)
    return GateRule(
        gate=gate.model_copy(update={"dry_run": gate.dry_run or block.dry_run}),
        workload=workload_identity(tenant),
        node=tenant.node,
        need_mib=tenant.budget_mib if gate.need_mib is None else gate.need_mib,
        margin_mib=margin_mib(estate, gate),
        close_free_mib=close_free_mib(estate, gate),
        released_annotation=names.released_replicas_annotation(estate.label_prefix),
        jobs_lane=lane.name if lane is not None and lane.queues else None,
        lease_lane=lane.name if lane is not None and not lane.queues else None,
        lease_wait_seconds=block.leases.longest_wait_seconds if block.leases is not None else 0.0,
        lane_windows=lane.windows if lane is not None else (),
    )
