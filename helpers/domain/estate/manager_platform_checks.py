"""What the manager's platform objects and the rest of the estate must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from fractions import Fraction

from helpers.domain import names
from helpers.domain.errors import Problem, QuantityError
from helpers.domain.estate.job_priorities import WORDS
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.mig import ALL_DISABLED
from helpers.domain.estate.model import Estate
from helpers.domain.estate.node_pools import NodePool
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE, Node
from helpers.domain.estate.project_limits import LIMITS, REQUESTS, inert
from helpers.domain.quantity import Quantity


def platform_object_problems(estate: Estate) -> Iterator[Problem]:
    """All problems; none where there is no `manager` block."""
    manager = estate.manager
    if manager is None:
        return
    yield from _pools(manager)
    yield from _nodes_of_pools(estate, manager)
    yield from _quotas(manager)
    yield from _tenants_beside_jobs(estate, manager)
    yield from _priorities(estate, manager)
    yield from _weights(manager)
    yield from _queues(manager)


def _pools(manager: Manager) -> Iterator[Problem]:
    classes = [one.name for one in manager.node_classes]
    pools = [one.name for one in manager.node_pools]
    yield from _unique("manager.node_classes", classes)
    yield from _unique("manager.node_pools", pools)
    configs = [ALL_DISABLED, *manager.mig.configs] if manager.mig else []
    for index, pool in enumerate(manager.node_pools):
        path = f"manager.node_pools[{index}]"
        if pool.node_class not in classes:
            rule = "node_class is the name of an entry under manager.node_classes"
            yield Problem(f"{path}.node_class", pool.node_class, rule, _meant(pool.node_class, classes))
        if pool.mig_config is not None and pool.mig_config not in configs:
            rule = "mig_config is the name of an entry under manager.mig.configs"
            yield Problem(f"{path}.mig_config", pool.mig_config, rule, _meant(pool.mig_config, configs))
    together = sum(pool.gpu_limit_count for pool in manager.node_pools)
    if manager.gpu_limit_count is not None and together > manager.gpu_limit_count:
        each = ", ".join(f"{pool.name} {pool.gpu_limit_count}" for pool in manager.node_pools)
        rule = f"the pools' limits are {together} GPUs together ({each}); Karpenter knows no limit over several pools"
        yield Problem("manager.gpu_limit_count", str(manager.gpu_limit_count), rule, "lower gpu_limit_count of a pool")


def _nodes_of_pools(estate: Estate, manager: Manager) -> Iterator[Problem]:
    """Entries under `nodes` that say which pool their machines are from."""
    pools = {pool.name: pool for pool in manager.node_pools}
    for index, node in enumerate(estate.nodes):
        named = (node.selector or {}).get(names.NODE_POOL_LABEL)
        if named is None or not pools:
            continue
        path = f"nodes[{index}]"
        if named not in pools:
            rule = f"{names.NODE_POOL_LABEL} is the name of an entry under manager.node_pools"
            yield Problem(f"{path}.selector", named, rule, _meant(named, list(pools)))
            continue
        for taint in pools[named].taints:
            if taint.effect != "PreferNoSchedule" and not _tolerated(node, taint.key, taint.value, taint.effect):
                rule = f"machines of pool {named} carry the taint {taint.key}={taint.value}:{taint.effect}"
                yield Problem(f"{path}.tolerations", "", rule, f"add {{key: {taint.key}, operator: Exists}}")
        yield from _shares(path, node, pools[named])


def _shares(path: str, node: Node, pool: NodePool) -> Iterator[Problem]:
    """Karpenter counts cards where the device plugin will offer shares of the same name."""
    slicing = node.sharing.timeSlicing if node.sharing else None
    if slicing is not None and not slicing.renameByDefault:
        rule = (
            f"a machine of pool {pool.name} offers {node.shares_count()} {WHOLE_GPU_RESOURCE}; Karpenter cannot change "
            f"a number that its provider knows, reckons with {node.card_count}, and makes too many machines"
        )
        repair = "set renameByDefault: true; shares then have a name of their own, which NodeOverlays declare"
        yield Problem(f"{path}.sharing.timeSlicing.renameByDefault", "false", rule, repair, severity="warning")


def _tolerated(node: Node, key: str, value: str, effect: str) -> bool:
    for one in node.tolerations:
        covers = one.get("key") in (None, key) and one.get("effect") in (None, "", effect)
        if covers and (one.get("operator") == "Exists" or one.get("value", "") == value):
            return True
    return False


def _quotas(manager: Manager) -> Iterator[Problem]:
    for index, project in enumerate(manager.projects):
        for key, amount in (project.quota.hard if project.quota else {}).items():
            path = f'manager.projects[{index}].quota.hard["{key}"]'
            text = "" if isinstance(amount, dict | list) else str(amount)
            if key == REQUESTS + WHOLE_GPU_RESOURCE:
                yield Problem(path, text, "GPUs come from gpu_quota_count; a second copy could differ", "remove it")
            elif inert(key):
                name = key.removeprefix(LIMITS)
                rule = "a ResourceQuota accepts this and does nothing: of an extended resource only requests.* counts"
                yield Problem(path, text, rule, f"write {REQUESTS}{name}, or remove it", severity="warning")
            try:
                Quantity.parse(str(amount) if type(amount) is int else amount)
            except QuantityError as error:
                yield Problem(path, text, str(error), "write it as Kubernetes does, such as 64 or 512Gi")


def _tenants_beside_jobs(estate: Estate, manager: Manager) -> Iterator[Problem]:
    for index, project in enumerate(manager.projects):
        beside = [tenant.name for tenant in estate.tenants if tenant.namespace == project.name]
        if beside and (project.quota is not None or project.gpu_quota_count is not None):
            rule = f"a quota counts every pod of its namespace, so {', '.join(beside)} would use up what jobs may have"
            repair = "give the project a namespace of its own"
            yield Problem(f"manager.projects[{index}].name", project.name, rule, repair, severity="warning")


def _priorities(estate: Estate, manager: Manager) -> Iterator[Problem]:
    if manager.priorities is None:
        if manager.engine == "kueue":
            rule = "Kueue orders jobs by WorkloadPriorityClasses, which are made from priorities"
            yield Problem("manager.engine", "kueue", rule, "add priorities: {high: …, medium: …, low: …}")
        return
    declared = {item.name: item.value for item in estate.priority_classes}
    values: list[int] = []
    for word in WORDS:
        name = manager.priorities.class_of(word)
        if name not in declared:
            rule = "a job's priority is the name of an entry under priority_classes"
            yield Problem(f"manager.priorities.{word}", name, rule, _meant(name, list(declared)))
            return
        values.append(declared[name])
    if not values[0] > values[1] > values[2]:
        rule = f"high is more than medium, and medium more than low; they are {values[0]}, {values[1]}, {values[2]}"
        yield Problem("manager.priorities", "", rule, "change the values under priority_classes")


def _weights(manager: Manager) -> Iterator[Problem]:
    # Volcano's weight is an integer; Kueue's a quantity, of which the API server keeps thousandths.
    parts = {"native": None, "kueue": 1000, "volcano": 1}[manager.engine]
    for index, project in enumerate(manager.projects):
        if parts is not None and (Fraction(str(project.weight)) * parts).denominator != 1:
            rule = f"a weight of {manager.engine} is a whole number" + (" of thousandths" if parts > 1 else "")
            repair = "multiply the weights of all projects by the same number"
            yield Problem(f"manager.projects[{index}].weight", str(project.weight), rule, repair)


def _queues(manager: Manager) -> Iterator[Problem]:
    path, wanted = "manager.queues.provisioning_class", manager.queues.provisioning_class
    if wanted is None:
        return
    if manager.engine != "kueue":
        rule = "only Kueue makes ProvisioningRequests"
        yield Problem(path, wanted, rule, "remove it, or use engine: kueue")
    elif manager.node_pools:
        rule = "node_pools are Karpenter's, and Karpenter answers no ProvisioningRequest: jobs would wait for ever"
        yield Problem(path, wanted, rule, "remove it; Karpenter sees the pods of an admitted job")


def _unique(path: str, found: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(found):
        if name in found[:index]:
            rule = f"name is unique within {path}"
            yield Problem(f"{path}[{index}].name", name, rule, "give one of the two another name, or remove it")


def _meant(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(sorted(known)) or 'none'}"
