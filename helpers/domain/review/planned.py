"""The estate as Terraform's state has it: the planned estate, with what a plan says that stands now.

A plan holds documents, not an estate. Numbers (advertised, shares, machines, budgets, replicas) and
names are read from them. What no document says (always-on or elastic, policy, physical memory, tenants
by admission) is taken from the planned estate, so a change of those alone is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from helpers.domain.budget import BudgetFields
from helpers.domain.capacity import CapacitySettings, NodeCapacity
from helpers.domain.errors import InputError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.quantity import Quantity
from helpers.domain.review.documents import Document
from helpers.domain.review.tenants import BUDGET_FAMILY, TENANT_FAMILY

# The steps that carry every node's number, one in each of the first two stacks.
CAPACITY_STEPS = ("capacity-assert", "gate")
_USE_BASE = "review two estates with --base instead"


def estate_before(planned: Estate, before: Iterable[Document], waves: frozenset[int]) -> Estate:
    """`planned` with the numbers of `before`, the documents that stand now. `waves`: those that the plan is of.

    Raises:
        InputError: a document cannot be told back into an estate; names it.
    """
    documents = {document.address: document for document in before}
    base = _with_capacity(planned, documents)
    return base.model_copy(update={"tenants": _tenants(base, documents)}) if 1 in waves else base


def _with_capacity(planned: Estate, documents: Mapping[str, Document]) -> Estate:
    step = next((documents[name] for name in CAPACITY_STEPS if name in documents), None)
    if step is None:
        return planned
    try:
        settings = CapacitySettings.model_validate_json(str(step.body["capacity"]))
    except (KeyError, ValidationError) as error:
        raise InputError(f"{step.address}: its triggers hold no capacity document; {_USE_BASE}") from error
    known = {node.name: node for node in planned.nodes}
    nodes = tuple(_node(known.get(one.name), one) for one in settings.nodes)
    return planned.model_copy(update={"nodes": nodes, "resource": settings.resource})


def _node(planned: Node | None, was: NodeCapacity) -> Node:
    found = {"name": was.name, "node_name": was.node_name, "selector": was.labels or None, "min_nodes": was.min_nodes}
    if planned is None:
        # Its cards are told nowhere any more: one card of its number stands for them.
        gpu = {"model": "unknown", "count": 1, "physical_mib": was.advertised_mib, "reserve_mib": 0}
        return _with_shares(Node.model_validate({**found, "gpus": [gpu]}), was)
    node = planned.model_copy(update=found)
    if node.advertised_mib != was.advertised_mib:
        (first, *more) = node.gpus
        card_mib, rest = divmod(was.advertised_mib, first.count)
        if more or rest:
            raise InputError(
                f"node {was.name} advertised {was.advertised_mib} MiB, no plan says which of its cards had how much: "
                + _USE_BASE
            )
        physical_mib = max(first.physical_mib, card_mib)
        update = {"physical_mib": physical_mib, "reserve_mib": physical_mib - card_mib}
        node = node.model_copy(update={"gpus": (first.model_copy(update=update),)})
    return _with_shares(node, was)


def _with_shares(node: Node, was: NodeCapacity) -> Node:
    replicas, rest = divmod(was.shares_count, node.card_count)
    if node.shares_count() == was.shares_count and node.share_resource() == was.share_resource:
        return node
    if rest:
        raise InputError(f"node {node.name}: {was.shares_count} shares on {node.card_count} cards; {_USE_BASE}")
    if replicas == 1:
        return node.model_copy(update={"sharing": None})
    name = was.share_resource.removesuffix(".shared")
    slicing = {"renameByDefault": name != was.share_resource, "resources": [{"name": name, "replicas": replicas}]}
    fresh = {**node.model_dump(mode="json"), "sharing": {"timeSlicing": slicing}}
    return Node.model_validate(fresh)


def _tenants(base: Estate, documents: Mapping[str, Document]) -> tuple[Tenant, ...]:
    found: dict[str, Tenant] = {}
    for address, document in documents.items():
        family, _, name = address.partition("-")
        if family == BUDGET_FAMILY and document.kind == "Step":
            found[name] = _patched(base, name, document)
        elif family == TENANT_FAMILY and document.kind in ("Deployment", "StatefulSet", "DaemonSet"):
            found[name] = _created(base, name, document, documents)
    kept = [found.pop(one.name, one if one.apply == "admission" else None) for one in base.tenants]
    return (*(one for one in kept if one is not None), *found.values())


def _patched(base: Estate, name: str, step: Document) -> Tenant:
    try:
        fields = BudgetFields.model_validate({**step.body, **_whole_numbers(step.body, "budget_mib", "shares")})
    except ValidationError as error:
        raise InputError(f"{step.address}: its triggers are no budget; {_USE_BASE}") from error
    workload = {"kind": fields.kind, "name": fields.workload, "container": fields.container}
    told = {"namespace": fields.namespace, "budget_mib": fields.budget_mib, "shares": fields.shares, "apply": "patch"}
    return _tenant(base, name, workload, told, node=None)


def _created(base: Estate, name: str, document: Document, documents: Mapping[str, Document]) -> Tenant:
    pod = document.body["spec"]["template"]["spec"]
    for container in pod["containers"]:
        limits = container.get("resources", {}).get("limits", {})
        if base.resource in limits:
            break
    else:
        raise InputError(f"{document.address}: no container declares {base.resource}; {_USE_BASE}")
    nodes = [node for node in base.nodes if node.node_selector().items() <= (pod.get("nodeSelector") or {}).items()]
    node = nodes[0] if len(nodes) == 1 else None
    shares = limits.get(node.share_resource(), "0") if node else "0"
    metadata = document.body["metadata"]
    told: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "budget_mib": _count(limits[base.resource], document.address),
        "shares": _count(shares, document.address),
        "priority": pod.get("priorityClassName"),
        "apply": "create",
    }
    step = documents.get(f"replicas-{name}")
    if step is not None:
        # A demand gate's tenant begins at 0 pods, and is counted with the one that it may have.
        told["replicas"] = max(1, int(str(step.body["replicas"])))
    workload = {"kind": document.kind, "name": metadata["name"], "container": container["name"]}
    return _tenant(base, name, workload, told, node)


def _tenant(base: Estate, name: str, workload: dict[str, str], told: dict[str, Any], node: Node | None) -> Tenant:
    planned = base.tenant(name)
    if planned is not None:
        moved = {"node": node.name} if node is not None else {}
        changed = planned.workload.model_copy(update=workload)
        if told.get("replicas") == planned.replicas_count:
            told = {**told, "replicas": planned.replicas}
        return planned.model_copy(update={**told, **moved, "workload": changed})
    if node is None and len(base.nodes) > 1:
        raise InputError(f"tenant {name} goes, and no plan says on which kind of node it was; {_USE_BASE}")
    where = (node or base.nodes[0]).name
    pod: dict[str, Any] = {"pod": {}} if told["apply"] == "create" else {}
    # Whether it was always-on is told nowhere; that it was is what nobody regrets.
    fresh = {"name": name, "workload": workload, "node": where, "class": "realtime", **told, **pod}
    return Tenant.model_validate(fresh)


def _whole_numbers(triggers: Mapping[str, Any], *keys: str) -> dict[str, int]:
    """Triggers are texts."""
    return {key: int(str(triggers[key])) for key in keys if str(triggers.get(key, "")).isdigit()}


def _count(quantity: Any, where: str) -> int:
    return Quantity.parse(str(quantity)).as_count(where)
