"""Cards for claims on the lab: slices as the agent would publish them, and who got which card."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from helpers.domain.budget import budget_fields
from helpers.domain.dra.devices import Device
from helpers.domain.dra.naming import DEVICE_CLASS, DRIVER
from helpers.domain.dra.offers import held_memory
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.rendering.dra import dra_objects
from helpers.rendering.render import render
from helpers.services.budget import set_budget
from helpers.services.capacity_observation import pod_budget_mib
from helpers.services.claims import CLAIMS
from lab.cluster import Lab
from tests.synth.estates import on_claims


def make_device_class(cluster: Cluster) -> None:
    """The estate's own, which stays: it is the cluster's, and every test has the same."""
    (manifest,) = [item.manifest for item in dra_objects(on_claims()) if item.kind == "DeviceClass"]
    assert manifest["metadata"]["name"] == DEVICE_CLASS
    cluster.apply(manifest, field_manager="test", force=True)


def publish(cluster: Cluster, node: str, cards_mib: Sequence[int], models: Sequence[str] = ()) -> None:
    """A slice of `node`, which takes it away when it goes."""
    found = cluster.get(ObjectRef("v1", "Node", node))
    assert found is not None
    names = models or ["NVIDIA GeForce RTX 3090"] * len(cards_mib)
    devices = [
        Device(f"gpu-{index}", f"GPU-{node}-{index}", model, index, mib)
        for index, (mib, model) in enumerate(zip(cards_mib, names, strict=True))
    ]
    manifest = desired_slice(NodeIdentity(node, found["metadata"]["uid"]), devices, 1)
    cluster.apply(manifest, field_manager="test", force=True)


def cards_of(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str, int]]:
    """`{pod: (node, card, MiB)}` of every pod of `namespace` whose claim is allocated."""
    claims = [item for item in cluster.list(CLAIMS) if item["metadata"]["namespace"] == namespace]
    return {
        pod: (held.key[1], held.key[2], held.memory_mib) for held in held_memory(claims, DRIVER) for pod in held.pods
    }


def phases(cluster: Cluster, namespace: str) -> dict[str, str]:
    """`{pod: phase}`; a pod that no node took is Pending."""
    pods: list[dict[str, Any]] = cluster.list(ObjectRef("v1", "Pod", namespace=namespace))
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}


def owned_deployment(namespace: str, name: str, container: str, pod: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of somebody else's, with one container and no budget; `pod` is further keys of its pod."""
    labels = {"app": name}
    containers = [{"name": container, "image": f"registry.example.com/{name}:1"}]
    template = {"metadata": {"labels": labels}, "spec": pod | {"containers": containers}}
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def ground_by_number(cluster: Cluster, estate: Estate, node: str, number_mib: int, owned: dict[str, Any]) -> None:
    """What the estate's tenants stand on, `node` with its number, and the tenant in somebody else's `owned`."""
    for item in render(estate).objects:
        if item.component in ("base", "capacity", "consumers"):
            cluster.apply(item.manifest, field_manager="gpumem-terraform")
    amounts = {estate.resource: str(number_mib)}
    status = {"capacity": amounts, "allocatable": amounts}
    shown = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": status}
    cluster.apply(shown, field_manager="gpumem-capacity", subresource="status", force=True)
    cluster.apply(owned, field_manager="owner")
    tenant = estate.tenant(owned["metadata"]["name"])
    assert tenant is not None
    set_budget(cluster, budget_fields(estate, tenant))


def remove_ground(lab: Lab, estate: Estate, node: str, namespace: str) -> None:
    """What stands on the cluster by `ground_by_number`; `namespace`: the tenants'."""
    for one in (namespace, estate.namespace):
        lab.api().delete(f"/api/v1/namespaces/{one}")
    for path in ("clusterrolebindings", "clusterroles"):
        for name in ("gpumem-capacity", "gpumem-dra-agent"):
            lab.api().delete(f"/apis/rbac.authorization.k8s.io/v1/{path}/{name}")
    lab.api().delete(f"/apis/node.k8s.io/v1/runtimeclasses/{namespace}")
    lab.node_remove(node)


class Watcher:
    """Adds up, many times a second, what pods of the number and claims with pods hold in one namespace.

    `highest_mib` is all of it together. `highest_card_mib` is what the fullest card with a claim might hold: its
    claims, and every pod of the number, for nobody can tell which card such a pod is on.
    """

    def __init__(self, lab: Lab, namespace: str, number: str) -> None:
        self._api = lab.api()
        self._namespace = namespace
        self._number = number
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.highest_mib = 0
        self.highest_card_mib = 0
        self.looks_count = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            # Pods first: what moves from the number to a claim in between is counted twice, never not at all.
            pods = self._api.get(f"/api/v1/namespaces/{self._namespace}/pods")["items"]
            numbered_mib = sum(pod_budget_mib(pod, self._number) for pod in pods if pod["spec"].get("nodeName"))
            bound = {pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName")}
            claims = self._api.get(f"/apis/resource.k8s.io/v1/namespaces/{self._namespace}/resourceclaims")["items"]
            by_card: dict[str, int] = {}
            for claim in claims:
                for card, mib in _claimed_mib(claim, bound):
                    by_card[card] = by_card.get(card, 0) + mib
            self.highest_mib = max(self.highest_mib, numbered_mib + sum(by_card.values()))
            self.highest_card_mib = max([self.highest_card_mib, *(numbered_mib + mib for mib in by_card.values())])
            self.looks_count += 1
            time.sleep(0.02)


def _claimed_mib(claim: dict[str, Any], bound: set[str]) -> list[tuple[str, int]]:
    """`(card, MiB)` of a claim that a pod with a node uses."""
    status = claim.get("status", {})
    if not any(one["name"] in bound for one in status.get("reservedFor", ())):
        return []
    results = status.get("allocation", {}).get("devices", {}).get("results", ())
    return [
        (f"{one['pool']}/{one['device']}", int(one["consumedCapacity"]["memory"].removesuffix("Mi"))) for one in results
    ]
