"""What demand gates and the rest of the estate must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.demand_gates.cron import jumped_over
from helpers.domain.demand_gates.rules import close_free_mib, margin_mib
from helpers.domain.errors import Problem
from helpers.domain.estate.coordinator import Coordinator
from helpers.domain.estate.demand_gates import DemandGate
from helpers.domain.estate.lane_checks import known_tenant
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant


def gate_problems(estate: Estate) -> Iterator[Problem]:
    """All problems of `coordinator.demand_gates`; none where there is no such block."""
    block = estate.coordinator
    if block is None:
        return
    tenants = {tenant.name: tenant for tenant in estate.tenants}
    for index, gate in enumerate(block.demand_gates):
        path = f"coordinator.demand_gates[{index}]"
        before = block.demand_gates[:index]
        if gate.name in [other.name for other in before]:
            yield Problem(f"{path}.name", gate.name, "a gate's name is unique", "give one of the two another name")
        if gate.tenant in [other.tenant for other in before]:
            yield Problem(f"{path}.tenant", gate.tenant, "a tenant has one gate", "remove one of the two")
        if gate.lane is not None and gate.lane not in [lane.name for lane in block.lanes]:
            known = ", ".join(lane.name for lane in block.lanes) or "none"
            yield Problem(f"{path}.lane", gate.lane, "lane is the name of an entry under lanes", f"known: {known}")
        yield from known_tenant(f"{path}.tenant", gate.tenant, tenants)
        yield from _lease(path, block, gate)
        if gate.tenant in tenants:
            yield from _can_be_scaled(path, tenants[gate.tenant])
            yield from _memory(path, estate, gate, tenants[gate.tenant])
            yield from _engine(path, estate, block, gate, tenants[gate.tenant])


def _lease(path: str, block: Coordinator, gate: DemandGate) -> Iterator[Problem]:
    lane = next((one for one in block.lanes if one.name == gate.lane), None)
    if lane is not None and not lane.queues and lane.tenant != gate.tenant:
        yield Problem(
            f"{path}.lane",
            lane.name,
            f"a lane without queues is for leases of its tenant, and {lane.name} is {lane.tenant}'s",
            f"name a lane of {gate.tenant}",
        )
    if lane is not None and not lane.queues and gate.engine == "keda":
        yield Problem(
            f"{path}.lane",
            lane.name,
            "KEDA holds no lease, so its gates are in no lane for leases alone",
            "name a lane with queues, or use engine: coordinator",
        )
    if gate.lane is None and gate.engine == "coordinator" and block.leases is not None:
        yield Problem(
            path,
            gate.name,
            "where there are leases, a gate is in a lane: else what its tenant takes stands in no book",
            f"add {{name: …, class: batch, tenant: {gate.tenant}}} under lanes and name it under lane",
        )


def _can_be_scaled(path: str, tenant: Tenant) -> Iterator[Problem]:
    if tenant.workload.kind == "DaemonSet":
        yield Problem(
            f"{path}.tenant",
            tenant.name,
            "a gate scales a Deployment or a StatefulSet; a DaemonSet has no replicas",
            "make the workload a Deployment, or remove the gate",
        )
    elif tenant.replicas_count != 1:
        yield Problem(
            f"{path}.tenant",
            tenant.name,
            f"a gate scales between 0 and 1, and {tenant.name} has replicas: {tenant.replicas_count}",
            "remove its replicas, or the gate",
        )
    if not tenant.elastic:
        yield Problem(
            f"{path}.tenant",
            tenant.name,
            "a gated tenant does not always run, so it is not in the always-on sum",
            f"set elastic: true for {tenant.name}",
        )


def _memory(path: str, estate: Estate, gate: DemandGate, tenant: Tenant) -> Iterator[Problem]:
    need_mib = tenant.budget_mib if gate.need_mib is None else gate.need_mib
    if need_mib > tenant.budget_mib:
        rule = f"a gate's need is within its tenant's budget, and {tenant.name} has budget_mib: {tenant.budget_mib}"
        yield Problem(f"{path}.need_mib", str(need_mib), rule, f"set {tenant.budget_mib} or less, or remove it")
    least_mib, spare_mib = close_free_mib(estate, gate), margin_mib(estate, gate)
    if spare_mib < least_mib:
        yield Problem(
            f"{path}.margin_mib",
            str(spare_mib),
            f"what is free beside its need must not close it at once, and it closes under {least_mib} MiB",
            f"set margin_mib: {least_mib} or more, or a lower close_free_mib",
        )
    known = [node for node in estate.nodes if node.name == tenant.node]
    largest_mib = max((gpu.largest_mib for node in known for gpu in node.gpus), default=None)
    if largest_mib is not None and need_mib + spare_mib > largest_mib:
        yield Problem(
            path,
            gate.name,
            f"it opens at {need_mib} + {spare_mib} MiB free, and a card of {tenant.node} has {largest_mib}: never",
            "lower need_mib, margin_mib or close_free_mib",
        )


def _engine(path: str, estate: Estate, block: Coordinator, gate: DemandGate, tenant: Tenant) -> Iterator[Problem]:
    if gate.engine == "coordinator":
        if not any(one.tenant == tenant.name and one.exporter_url is not None for one in block.engines):
            rule = "a gate opens on measured free memory, so its tenant has an engine with exporter_url"
            yield Problem(f"{path}.tenant", tenant.name, rule, f"add it under engines, with tenant: {tenant.name}")
        return
    if block.keda is None:
        rule = "engine: keda needs the Prometheus that KEDA asks"
        yield Problem(f"{path}.engine", gate.engine, rule, "add coordinator.keda.prometheus_url")
    if any(node.name == tenant.node and node.node_name is None for node in estate.nodes):
        yield Problem(
            f"{path}.engine",
            gate.engine,
            f"KEDA finds the card in Prometheus by its node's Kubernetes name, and {tenant.node} is a selector",
            "use engine: coordinator, or give the node an entry with node_name",
        )
    for number, window in enumerate(gate.windows):
        if text := jumped_over(window):
            at = "from" if text == window.from_time else "to"
            yield Problem(
                f"{path}.windows[{number}].{at}",
                text,
                f"KEDA's cron leaves out a time that the clock of {window.time_zone} jumps over in spring, "
                "and its target then runs or rests at the wrong hours for a day",
                "move it to another hour, or use engine: coordinator",
            )
