"""Cards for claims on the lab: slices as the agent would publish them, and who got which card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.domain.dra.devices import Device
from helpers.domain.dra.naming import DEVICE_CLASS, DRIVER
from helpers.domain.dra.offers import held_memory
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.rendering.dra import dra_objects
from helpers.services.claims import CLAIMS
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
