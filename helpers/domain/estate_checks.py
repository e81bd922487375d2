"""What the blocks of an estate must agree on: references, arithmetic, seats, rollouts.

Every check returns Problems with estate paths; none raises, so that all of them are reported at
once. `always_on_overcommit` is a check of its own because review judges it instead of refusing it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence

from helpers.domain.errors import Problem
from helpers.domain.estate import Estate
from helpers.domain.estate_nodes import Node
from helpers.domain.estate_pod_checks import pod_problems
from helpers.domain.estate_tenants import Tenant
from helpers.domain.ledger import NodeLedger, build_ledger

Check = Callable[[Estate], Iterable[Problem]]

# What each remote backend needs before two applies exclude each other; local and the rest always lock.
_LOCK_SETTINGS = {"s3": ("use_lockfile", "dynamodb_table"), "http": ("lock_address",)}


def check_estate(estate: Estate, *, allow_overcommit: bool = False) -> list[Problem]:
    """All problems of `estate`, errors and warnings, in the order of the checks."""
    checks: list[Check] = [
        _unique_names,
        _one_workload_once,
        _selectors_do_not_nest,
        _references,
        _quotas,
        _tenants_fit_a_card,
        _shares,
        _models,
        pod_problems,
        _watchdog_floor,
        _device_plugin,
        _terraform_lock,
        _rollouts,
    ]
    if not allow_overcommit:
        checks.append(always_on_overcommit)
    return [problem for check in checks for problem in check(estate)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or the list of what is known, for a repair line."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(names)}" if names else "none is declared"


def always_on_overcommit(estate: Estate) -> Iterator[Problem]:
    """Always-on budgets fit what is advertised: per node, then per card."""
    for index, entry in enumerate(build_ledger(estate).nodes):
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
    return all(line.tenant.budget_mib <= entry.node.largest_card_mib for line in entry.always_on)


def _no_seating(path: str, entry: NodeLedger) -> Problem:
    pods = " + ".join(f"{line.pods_count} x {line.tenant.budget_mib} ({line.tenant.name})" for line in entry.always_on)
    cards = ", ".join(f"{card.advertised_mib}" for card in entry.cards)
    found = "no seating exists" if entry.seating_proved else "no seating was found (the search was cut short)"
    return Problem(
        path,
        entry.node.name,
        f"every pod must fit whole on one card, and {found}: {pods} on cards of {cards} MiB",
        "lower a budget so that pods fit the cards, or mark a tenant elastic: true",
    )


def _unique_names(estate: Estate) -> Iterator[Problem]:
    yield from _duplicates("nodes", "name", [node.name for node in estate.nodes])
    yield from _duplicates("tenants", "name", [tenant.name for tenant in estate.tenants])
    yield from _duplicates("priority_classes", "name", [item.name for item in estate.priority_classes])
    yield from _duplicates("quotas", "namespace", [quota.namespace for quota in estate.quotas])


def _duplicates(block: str, key: str, values: Sequence[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value in first:
            rule = f"{key} is unique within {block}; {block}[{first[value]}] has it too"
            yield Problem(f"{block}[{index}].{key}", value, rule, f"give one of the two another {key}, or remove it")
        first.setdefault(value, index)


def _one_workload_once(estate: Estate) -> Iterator[Problem]:
    first: dict[tuple[str, str, str], Tenant] = {}
    for index, tenant in enumerate(estate.tenants):
        owner = first.setdefault(tenant.key, tenant)
        if owner is not tenant:
            namespace, kind, name = tenant.key
            yield Problem(
                f"tenants[{index}].workload",
                f"{kind} {namespace}/{name}",
                f"a workload is one tenant; {owner.name} declares it already",
                "keep one of the two, with the budget of the whole pod",
            )


def _selectors_do_not_nest(estate: Estate) -> Iterator[Problem]:
    for index, node in enumerate(estate.nodes):
        for other in estate.nodes[:index]:
            if node.name != other.name and _nested(node, other):
                yield Problem(
                    f"nodes[{index}]",
                    node.name,
                    f"a machine belongs to one entry, and every machine of one of {node.name}, {other.name} "
                    "matches the other as well",
                    "add a label that tells the two kinds apart to both selectors",
                )


def _nested(one: Node, other: Node) -> bool:
    a, b = set(one.node_selector().items()), set(other.node_selector().items())
    return a <= b or b <= a


def _references(estate: Estate) -> Iterator[Problem]:
    nodes = {node.name: node for node in estate.nodes}
    priorities = {item.name for item in estate.priority_classes}
    for index, tenant in enumerate(estate.tenants):
        path = f"tenants[{index}]"
        if tenant.node not in nodes:
            rule = "node is the name of an entry under nodes"
            yield Problem(f"{path}.node", tenant.node, rule, did_you_mean(tenant.node, nodes))
        elif tenant.gpu_model is not None:
            models = {gpu.model for gpu in nodes[tenant.node].gpus}
            if tenant.gpu_model not in models:
                rule = f"node {tenant.node} has no such GPU"
                yield Problem(f"{path}.gpu_model", tenant.gpu_model, rule, did_you_mean(tenant.gpu_model, models))
        if tenant.priority is not None and tenant.priority not in priorities:
            rule = "priority is the name of an entry under priority_classes"
            yield Problem(f"{path}.priority", tenant.priority, rule, did_you_mean(tenant.priority, priorities))
    for index, item in enumerate(estate.priority_classes):
        if item.name.startswith("system-"):
            rule = "names that begin with system- are Kubernetes's own"
            yield Problem(f"priority_classes[{index}].name", item.name, rule, "choose another name")


def _quotas(estate: Estate) -> Iterator[Problem]:
    for index, quota in enumerate(estate.quotas):
        mine = [tenant for tenant in estate.tenants if tenant.namespace == quota.namespace]
        if not mine:
            namespaces = {tenant.namespace for tenant in estate.tenants}
            rule = "no tenant is declared in this namespace"
            repair = did_you_mean(quota.namespace, namespaces)
            yield Problem(f"quotas[{index}].namespace", quota.namespace, rule, repair)
            continue
        declared_mib = sum(t.budget_mib * (_pods_or_one(estate, t) + t.surge_count()) for t in mine)
        if quota.budget_mib < declared_mib:
            yield Problem(
                f"quotas[{index}].budget_mib",
                str(quota.budget_mib),
                f"budgets declared in {quota.namespace}, surge included, are {declared_mib} MiB; "
                "a lower quota would block new pods of the namespace",
                f"set budget_mib: {declared_mib} or more",
            )


def _pods_or_one(estate: Estate, tenant: Tenant) -> int:
    known = any(node.name == tenant.node for node in estate.nodes)
    return estate.pods_count(tenant) if known else tenant.replicas_count


def _tenants_fit_a_card(estate: Estate) -> Iterator[Problem]:
    nodes = {node.name: node for node in estate.nodes}
    for index, tenant in enumerate(estate.tenants):
        node = nodes.get(tenant.node)
        if node is None:
            continue
        largest_mib = max(
            (gpu.advertised_mib for gpu in node.gpus if tenant.gpu_model in (None, gpu.model)), default=None
        )
        if largest_mib is not None and tenant.budget_mib > largest_mib:
            yield Problem(
                f"tenants[{index}].budget_mib",
                str(tenant.budget_mib),
                f"a pod lives on one card, and the largest card of {node.name} advertises {largest_mib} MiB",
                f"set budget_mib: {largest_mib} or less, or move the tenant to a node with larger cards",
            )


def _shares(estate: Estate) -> Iterator[Problem]:
    nodes = {node.name: node for node in estate.nodes}
    for index, tenant in enumerate(estate.tenants):
        node = nodes.get(tenant.node)
        refuses_many = bool(node and node.sharing and node.sharing.timeSlicing.failRequestsGreaterThanOne)
        if refuses_many and tenant.shares > 1:
            yield Problem(
                f"tenants[{index}].shares",
                str(tenant.shares),
                f"node {tenant.node} has failRequestsGreaterThanOne: true, so its plugin refuses more than one share",
                "set shares: 1, or failRequestsGreaterThanOne: false on the node",
            )
    for index, entry in enumerate(build_ledger(estate).nodes):
        if entry.node.min_nodes and entry.always_on_shares_count > entry.shares_count:
            parts = " + ".join(f"{line.tenant.name} {line.shares_sum_count}" for line in entry.always_on)
            yield Problem(
                f"nodes[{index}].sharing",
                f"{entry.shares_count} shares",
                f"always-on tenants ask for {entry.always_on_shares_count} shares ({parts})",
                "raise resources[].replicas, lower shares, or mark a tenant elastic: true",
            )


def _models(estate: Estate) -> Iterator[Problem]:
    for index, tenant in enumerate(estate.tenants):
        yield from _duplicates(f"tenants[{index}].models", "name", [model.name for model in tenant.models])
        sizes = [model.vram_mib for model in tenant.models]
        needed_mib = 0 if not sizes else (max(sizes) if tenant.models_loaded == "one" else sum(sizes))
        if needed_mib > tenant.budget_mib:
            held = "the largest model" if tenant.models_loaded == "one" else "all models together"
            yield Problem(
                f"tenants[{index}].budget_mib",
                str(tenant.budget_mib),
                f"the budget must hold {held}: {needed_mib} MiB",
                f"set budget_mib: {needed_mib} or more, or models_loaded: one, or drop a model",
            )


def _watchdog_floor(estate: Estate) -> Iterator[Problem]:
    smallest = min((gpu.physical_mib, node.name) for node in estate.nodes for gpu in node.gpus)
    if estate.watchdog.floor_mib >= smallest[0]:
        yield Problem(
            "watchdog.floor_mib",
            str(estate.watchdog.floor_mib),
            f"a card is under pressure below the floor, so the floor is less than the smallest card "
            f"({smallest[0]} MiB on {smallest[1]})",
            "set it to some hundred MiB up to about a tenth of the card",
        )


def _device_plugin(estate: Estate) -> Iterator[Problem]:
    plugin = estate.device_plugin
    if plugin.managed_by == "estate" and plugin.image is None:
        rule = "managed_by: estate renders the plugin's DaemonSet, which needs its image"
        yield Problem("device_plugin.image", "", rule, "add image: nvcr.io/nvidia/k8s-device-plugin:<version>")


def _terraform_lock(estate: Estate) -> Iterator[Problem]:
    backend = estate.terraform.backend
    wanted = _LOCK_SETTINGS.get(backend.type, ())
    if wanted and not any(backend.config.get(setting) for setting in wanted):
        rule = f"backend {backend.type} does not lock its state unless {' or '.join(wanted)} is set"
        yield Problem("terraform.backend.config", backend.type, rule, f"add {wanted[0]}")


def _rollouts(estate: Estate) -> Iterator[Problem]:
    ledger = build_ledger(estate)
    for index, tenant in enumerate(estate.tenants):
        line = ledger.line(tenant.name)
        if line is None or line.can_roll or tenant.elastic:
            continue
        foreign = tenant.apply == "patch"
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
