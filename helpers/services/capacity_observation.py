"""Reads from the cluster what capacity, gate and verify decide on. Unreadable is an error, never zero."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, NodeFacts, RunningPod
from helpers.domain.errors import QuantityError
from helpers.domain.pod_phase import NOT_ENDED
from helpers.domain.quantity import Quantity
from helpers.ports.cluster import Cluster, Manifest, ObjectRef

NODES = ObjectRef("v1", "Node")
PODS = ObjectRef("v1", "Pod")

# A pod that ended holds nothing, though its object may stay for days.

Pods = Mapping[str, tuple[RunningPod, ...]]


def observe_nodes(cluster: Cluster, settings: CapacitySettings, pods: Pods | None = None) -> tuple[NodeFacts, ...]:
    """Every node of the cluster; `pods` as `running_pods` answers, none where they do not matter.

    Raises:
        QuantityError: a number on a node cannot be read; names node and field.
        ClusterError: the API refused or did not answer.
    """
    return tuple(node_facts(node, settings, pods) for node in cluster.list(NODES))


def node_facts(
    node: Manifest, settings: CapacitySettings, pods: Pods | None = None, shares: Iterable[str] | None = None
) -> NodeFacts:
    """One Node object as facts; `shares` are read, or those of the kinds that have a number.

    Raises:
        QuantityError: a number on it cannot be read.
    """
    name, status = node["metadata"]["name"], node.get("status", {})
    shares = {kind.share_resource for kind in settings.nodes} if shares is None else set(shares)
    allocatable = status.get("allocatable") or {}
    return NodeFacts(
        name=name,
        labels=dict(node["metadata"].get("labels") or {}),
        capacity_mib=_amount(status.get("capacity") or {}, settings.resource, f"node {name} status.capacity"),
        allocatable_mib=_amount(allocatable, settings.resource, f"node {name} status.allocatable"),
        owned=owns_capacity(node, settings.resource),
        pods=(pods or {}).get(name, ()),
        shares={
            share: count
            for share in sorted(shares)
            if (count := _amount(allocatable, share, f"node {name} status.allocatable")) is not None
        },
    )


def owns_capacity(node: Manifest, resource: str) -> bool:
    """Whether our field manager owns the number, in capacity or in allocatable, by server-side apply."""
    return any(
        f"f:{resource}" in entry.get("fieldsV1", {}).get("f:status", {}).get(amounts, {})
        for entry in node["metadata"].get("managedFields") or []
        if entry.get("manager") == names.FIELD_MANAGER_CAPACITY
        and entry.get("operation") == "Apply"
        and entry.get("subresource") == "status"
        for amounts in ("f:capacity", "f:allocatable")
    )


def running_pods(cluster: Cluster, resource: str, node: str = "") -> Pods:
    """Pods that hold budget and have not ended, by node, in a stable order: `{node: (pod, …)}`.

    Args:
        cluster: Where to look.
        resource: The extended resource that carries MiB.
        node: Only this node's pods; all nodes' where empty.

    Raises:
        QuantityError: a budget cannot be read; names pod, container and field.
        ClusterError: the API refused or did not answer.
    """
    selector = f"spec.nodeName={node},{NOT_ENDED}" if node else NOT_ENDED
    found: dict[str, list[RunningPod]] = defaultdict(list)
    for pod in cluster.list(PODS, field_selector=selector):
        place, budget_mib = pod["spec"].get("nodeName"), pod_budget_mib(pod, resource)
        if place and budget_mib:
            metadata = pod["metadata"]
            found[place].append(RunningPod(metadata["namespace"], metadata["name"], budget_mib))
    return {place: tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name))) for place, pods in found.items()}


def pod_budget_mib(pod: Manifest, resource: str) -> int:
    """MiB that the scheduler counts for `pod`: 0 where no container names the resource.

    Containers and sidecars run together and add up; an init container runs before the containers
    but beside the sidecars that were started before it (`PodRequests` in
    k8s.io/component-helpers/resource).

    Raises:
        QuantityError: names pod, container and field.
    """
    where = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    sidecars_mib = highest_init_mib = 0
    for container in pod["spec"].get("initContainers") or []:
        amount_mib = _container_mib(container, resource, where)
        if container.get("restartPolicy") == "Always":
            sidecars_mib += amount_mib
            highest_init_mib = max(highest_init_mib, sidecars_mib)
        else:
            highest_init_mib = max(highest_init_mib, sidecars_mib + amount_mib)
    together_mib = sidecars_mib + sum(
        _container_mib(container, resource, where) for container in pod["spec"]["containers"]
    )
    overhead_mib = _amount(pod["spec"].get("overhead") or {}, resource, f"{where} spec.overhead") or 0
    return max(together_mib, highest_init_mib) + overhead_mib


def _container_mib(container: Mapping[str, Any], resource: str, where: str) -> int:
    resources = container.get("resources") or {}
    place = f"{where} container {container['name']} resources"
    # Requests are what the scheduler counts; the API server fills them in from the limits.
    for field in ("requests", "limits"):
        amount_mib = _amount(resources.get(field) or {}, resource, f"{place}.{field}")
        if amount_mib is not None:
            return amount_mib
    return 0


def _amount(amounts: Mapping[str, Any], resource: str, place: str) -> int | None:
    if resource not in amounts:
        return None
    subject = f"{place}[{resource}]"
    try:
        quantity = Quantity.parse(amounts[resource])
    except QuantityError as error:
        raise QuantityError(f"{subject}: {error}") from error
    return quantity.as_count(subject)
