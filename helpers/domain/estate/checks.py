"""What the blocks of an estate must agree on; the arithmetic itself is in `estate_arithmetic`.

Every check returns Problems with estate paths; none raises, so that all of them are reported at
once. `always_on_overcommit` and `quotas_hold` are apart because review judges them instead of refusing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from helpers.domain.errors import Problem
from helpers.domain.estate.admission_checks import admission_problems
from helpers.domain.estate.arithmetic import always_on_overcommit, quotas_hold, rollouts, shares, tenants_fit_a_card
from helpers.domain.estate.budget_checks import budget_problems
from helpers.domain.estate.elastic_places import elastic_places
from helpers.domain.estate.gate_checks import gate_problems
from helpers.domain.estate.gpu_operator_checks import gpu_operator_problems
from helpers.domain.estate.lane_checks import lane_problems
from helpers.domain.estate.lease_checks import lease_problems
from helpers.domain.estate.manager import manager_problems
from helpers.domain.estate.manager_platform_checks import platform_object_problems
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.pod_checks import IMAGE_IS_PINNED, is_pinned, pod_problems
from helpers.domain.estate.state_backend import backend_problems
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.talos_checks import talos_problems
from helpers.domain.estate.tenant_labels import pods_of_one_tenant
from helpers.domain.estate.tenants import Tenant
from helpers.domain.estate.watchdog_checks import watchdog_problems
from helpers.domain.ledger import Ledger, build_ledger

Check = Callable[[Estate], Iterable[Problem]]
LedgerCheck = Callable[[Estate, Ledger], Iterable[Problem]]


def check_estate(estate: Estate, *, allow_overcommit: bool = False) -> list[Problem]:
    """All problems of `estate`, errors and warnings, in the order of the checks."""
    checks: tuple[Check, ...] = (
        _unique_names,
        _one_workload_once,
        pods_of_one_tenant,
        _selectors_do_not_nest,
        _references,
        _quotas,
        tenants_fit_a_card,
        _models,
        pod_problems,
        watchdog_problems,
        _device_plugin,
        backend_problems,
        lane_problems,
        gate_problems,
        lease_problems,
        admission_problems,
        budget_problems,
        manager_problems,
        platform_object_problems,
        gpu_operator_problems,
        talos_problems,
    )
    ledger_checks: tuple[LedgerCheck, ...] = (shares, rollouts, elastic_places)
    if not allow_overcommit:
        ledger_checks = (*ledger_checks, always_on_overcommit, quotas_hold)
    ledger = build_ledger(estate)
    found = [problem for check in checks for problem in check(estate)]
    return found + [problem for check in ledger_checks for problem in check(estate, ledger)]


def _unique_names(estate: Estate) -> Iterator[Problem]:
    yield from _duplicates("nodes", "name", [node.name for node in estate.nodes])
    yield from _duplicates("tenants", "name", [tenant.name for tenant in estate.tenants])
    yield from _duplicates("priority_classes", "name", [item.name for item in estate.priority_classes])
    yield from _duplicates("quotas", "namespace", [quota.namespace for quota in estate.quotas])
    for index, node in enumerate(estate.nodes):
        if node.sharing is not None:
            resources = node.sharing.timeSlicing.resources
            yield from _duplicates(f"nodes[{index}].sharing.timeSlicing.resources", "name", [r.name for r in resources])


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
        namespaces = {tenant.namespace for tenant in estate.tenants}
        if quota.namespace not in namespaces:
            rule = "no tenant is declared in this namespace"
            repair = did_you_mean(quota.namespace, namespaces)
            yield Problem(f"quotas[{index}].namespace", quota.namespace, rule, repair)


def _models(estate: Estate) -> Iterator[Problem]:
    for index, tenant in enumerate(estate.tenants):
        yield from _duplicates(f"tenants[{index}].models", "name", [model.name for model in tenant.models])
        sizes = [model.vram_mib for model in tenant.models]
        needed_mib = 0 if not sizes else (max(sizes) if tenant.models_loaded == "one" else sum(sizes))
        if needed_mib > tenant.budget_mib:
            one = tenant.models_loaded == "one"
            held = "the largest model" if one else "all models together"
            other_way = "drop that model" if one else "set models_loaded: one, or drop a model"
            yield Problem(
                f"tenants[{index}].budget_mib",
                str(tenant.budget_mib),
                f"the budget must hold {held}: {needed_mib} MiB",
                f"set budget_mib: {needed_mib} or more, or {other_way}",
            )


def _device_plugin(estate: Estate) -> Iterator[Problem]:
    plugin = estate.device_plugin
    path = "device_plugin.image"
    if plugin.managed_by == "estate" and plugin.image is None:
        rule = "managed_by: estate renders the plugin's DaemonSet, which needs its image"
        yield Problem(path, "", rule, "add image: nvcr.io/nvidia/k8s-device-plugin:<version>")
    elif plugin.managed_by == "gpu-operator" and plugin.image is not None:
        rule = "with managed_by: gpu-operator the operator chooses the plugin's image, so this would do nothing"
        yield Problem(path, plugin.image, rule, "remove image, or use managed_by: estate")
    elif plugin.image is not None and not is_pinned(plugin.image):
        yield Problem(path, plugin.image, IMAGE_IS_PINNED, "name the version that was tested")
