"""The arithmetic of an estate: budgets and shares against what the nodes offer, per node and per card.

The ledger is built once and handed in; every check returns Problems and none raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.ledger import Ledger, NodeLedger, TenantLine


def always_on_overcommit(_estate: Estate, ledger: Ledger) -> Iterator[Problem]:
    """Always-on budgets fit what is advertised: per node, then per card."""
    for index, entry in enumerate(ledger.nodes):
        if not entry.always_on:
            continue
        path = f"nodes[{index}]"
        if entry.node.min_nodes == 0:
            yield _always_on_without_nodes(path, entry)
        elif entry.slack_mib < 0:
            yield _node_overcommitted(path, entry)
        elif not entry.seated and _each_fits_somewhere(entry) and entry.always_on_shares_count <= entry.shares_count:
            yield _no_seating(path, entry)


def _always_on_without_nodes(path: str, entry: NodeLedger) -> Problem:
    names = ", ".join(line.tenant.name for line in entry.always_on)
    return Problem(
        f"{path}.min_nodes",
        "0",
        f"always-on tenants need nodes that are always there; {entry.node.name} has {names}",
        "set min_nodes: 1 or more, or mark the tenants elastic: true",
    )


def _node_overcommitted(path: str, entry: NodeLedger) -> Problem:
    parts = " + ".join(f"{line.tenant.name} {line.budget_sum_mib}" for line in entry.always_on)
    return Problem(
        path,
        entry.node.name,
        f"always-on budgets are {entry.always_on_mib} MiB ({parts}); "
        f"{entry.node.name} advertises {entry.advertised_mib} MiB",
        f"lower budgets by {-entry.slack_mib} MiB, or mark a tenant elastic: true",
    )


def _each_fits_somewhere(entry: NodeLedger) -> bool:
    return all(line.tenant.budget_mib <= (_largest_mib(entry.node, line.tenant) or 0) for line in entry.always_on)


def _no_seating(path: str, entry: NodeLedger) -> Problem:
    pods = " + ".join(map(_seat_wish, entry.always_on))
    sizes = Counter(card.advertised_mib for card in entry.cards)
    cards = " + ".join(f"{count} x {advertised_mib}" for advertised_mib, count in sorted(sizes.items(), reverse=True))
    found = "no seating exists" if entry.seating_proved else "no seating was found (the search was cut short)"
    return Problem(
        path,
        entry.node.name,
        f"every pod must fit whole on one card of a node that has its shares, and {found}: "
        f"{pods} on cards of {cards} MiB, with {_shares_text(entry.node.shares_count())} a node",
        "lower a budget so that pods fit the cards, or mark a tenant elastic: true",
    )


def _seat_wish(line: TenantLine) -> str:
    tenant = line.tenant
    wish = f"{line.pods_count} x {tenant.budget_mib} ({tenant.name}"
    wish += f", {_shares_text(line.shares)} each" if line.shares != 1 else ""
    return wish + (f", only {tenant.gpu_model})" if tenant.gpu_model else ")")


def _largest_mib(node: Node, tenant: Tenant) -> int | None:
    """Advertised MiB of the largest card that `tenant` may use; None where it names a model that is not there."""
    return max((gpu.largest_mib for gpu in node.gpus if tenant.gpu_model in (None, gpu.model)), default=None)


def tenants_fit_a_card(estate: Estate) -> Iterator[Problem]:
    """A pod lives on one card, so no budget is larger than the largest card that the tenant may use."""
    nodes = {node.name: node for node in estate.nodes}
    for index, tenant in enumerate(estate.tenants):
        node = nodes.get(tenant.node)
        largest_mib = _largest_mib(node, tenant) if node else None
        if node is not None and largest_mib is not None and tenant.budget_mib > largest_mib:
            which = f"{tenant.gpu_model} of {node.name}" if tenant.gpu_model else f"card of {node.name}"
            yield Problem(
                f"tenants[{index}].budget_mib",
                str(tenant.budget_mib),
                f"a pod lives on one card, and the largest {which} advertises {largest_mib} MiB",
                f"set budget_mib: {largest_mib} or less, or move the tenant to a node with larger cards",
            )


def shares(estate: Estate, ledger: Ledger) -> Iterator[Problem]:
    """Shares that are asked for exist, and the plugin would grant them."""
    nodes = {node.name: node for node in estate.nodes}
    for index, tenant in enumerate(estate.tenants):
        node = nodes.get(tenant.node)
        if node is not None and estate.shares(tenant) > 1 and _refuses_many(node):
            yield Problem(
                f"tenants[{index}].shares",
                str(tenant.shares),
                f"node {tenant.node} has failRequestsGreaterThanOne: true, so its plugin refuses more than one share",
                "set shares: 1, or failRequestsGreaterThanOne: false on the node",
            )
        elif node is not None and estate.shares(tenant) > node.shares_count():
            yield Problem(
                f"tenants[{index}].shares",
                str(tenant.shares),
                f"a pod takes its shares from one node, and a node of {node.name} offers {node.shares_count()}",
                f"set shares: {node.shares_count()} or less, or raise resources[].replicas",
            )
    for index, entry in enumerate(ledger.nodes):
        if entry.node.min_nodes and entry.always_on_shares_count > entry.shares_count:
            parts = " + ".join(f"{line.tenant.name} {line.shares_sum_count}" for line in entry.always_on)
            repair = "raise resources[].replicas" if entry.node.sharing else "add sharing.timeSlicing.resources"
            yield Problem(
                f"nodes[{index}].sharing",
                _shares_text(entry.shares_count),
                f"always-on tenants ask for {_shares_text(entry.always_on_shares_count)} ({parts})",
                f"{repair}, lower shares, or mark a tenant elastic: true",
            )


def quotas_hold(estate: Estate, _ledger: Ledger) -> Iterator[Problem]:
    """What a namespace may declare is no less than what its tenants do, rollouts included."""
    known = {node.name for node in estate.nodes}
    for index, quota in enumerate(estate.quotas):
        mine = [tenant for tenant in estate.tenants if tenant.namespace == quota.namespace]
        pods = {t.name: estate.pods_count(t) if t.node in known else t.replicas_count for t in mine}
        declared_mib = sum(t.budget_mib * (pods[t.name] + t.surge_count()) for t in mine)
        if quota.budget_mib < declared_mib:
            yield Problem(
                f"quotas[{index}].budget_mib",
                str(quota.budget_mib),
                f"budgets declared in {quota.namespace}, surge included, are {declared_mib} MiB; "
                "a lower quota would block new pods of the namespace",
                f"set budget_mib: {declared_mib} or more",
            )


def _shares_text(count: int) -> str:
    return "1 share" if count == 1 else f"{count} shares"


def _refuses_many(node: Node) -> bool:
    return node.sharing is not None and node.sharing.timeSlicing.failRequestsGreaterThanOne


def rollouts(estate: Estate, ledger: Ledger) -> Iterator[Problem]:
    """A rolling update that starts a pod before it stops one finds room for it."""
    lines = {line.tenant.name: line for entry in ledger.nodes for line in entry.lines}
    for index, tenant in enumerate(estate.tenants):
        line = lines.get(tenant.name)
        if line is None or line.can_roll or tenant.elastic:
            continue
        foreign = tenant.apply != "create"
        yield Problem(
            f"tenants[{index}].strategy",
            tenant.name,
            f"a rolling update starts {tenant.surge_count()} more pod(s) of {tenant.budget_mib} MiB before an old one "
            f"stops, and no card of {tenant.node} has room for one: the update would hang",
            "ask its owner for Recreate or maxSurge: 0 and declare it under strategy"
            if foreign
            else "use strategy: {type: Recreate}, or maxSurge: 0",
            severity="warning" if foreign else "error",
        )
