"""What the leases, the lanes and the rest of the estate must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.coordinator import Coordinator
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant

_PATH = "coordinator.leases.tenants"


def lease_problems(estate: Estate) -> Iterator[Problem]:
    """All problems of `coordinator.leases`, and of lanes that only leases could use."""
    block = estate.coordinator
    if block is None:
        return
    holders = [entry.tenant for entry in block.leases.tenants] if block.leases is not None else []
    for index, lane in enumerate(block.lanes):
        if not lane.queues and lane.tenant not in holders:
            rule = "a lane without queues is for leases, and its tenant may hold none"
            repair = f"add queues, or {{tenant: {lane.tenant}}} under coordinator.leases.tenants"
            yield Problem(f"coordinator.lanes[{index}].queues", "", rule, repair)
    tenants = {tenant.name: tenant for tenant in estate.tenants}
    for index, name in enumerate(holders):
        path = f"{_PATH}[{index}].tenant"
        if name in holders[:index]:
            yield Problem(path, name, "a tenant is named once", "join the two entries")
        if name not in tenants:
            rule = "tenant is the name of an entry under tenants"
            yield Problem(path, name, rule, f"known: {', '.join(sorted(tenants)) or 'none'}")
        else:
            yield from _can_hold(path, tenants[name], block, estate)


def _can_hold(path: str, tenant: Tenant, block: Coordinator, estate: Estate) -> Iterator[Problem]:
    lanes = [lane for lane in block.lanes if lane.tenant == tenant.name]
    if not lanes:
        rule = "a lease is in a lane, and no lane has this tenant"
        yield Problem(
            path, tenant.name, rule, f"add {{name: …, class: …, tenant: {tenant.name}}} under coordinator.lanes"
        )
    node = next((one for one in estate.nodes if one.name == tenant.node), None)
    if node is None:
        return  # said where nodes are checked
    if node.min_nodes != 1:
        rule = f"leases are counted card by card, and {node.name} stands for {node.min_nodes} machines"
        yield Problem(path, tenant.name, rule, "give each machine an entry of its own under nodes")
    on_node = {one.name for one in estate.tenants if one.node == tenant.node}
    if not any(engine.exporter_url is not None and engine.tenant in on_node for engine in block.engines):
        rule = f"leases are granted by measured free memory, and no engine names the exporter of {tenant.node}"
        repair = f"add {{tenant: {tenant.name}, exporter_url: …}} under coordinator.engines"
        yield Problem(path, tenant.name, rule, repair)
