"""Hollow and bare nodes: what they carry, and what a new registration loses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client

from lab import cluster
from lab.cluster import Lab, LabNode
from lab.errors import LabInputError
from lab.nodes import is_ready
from lab.state import NodeKind

pytestmark = pytest.mark.lab

CAPACITY = "viktorbarzin.me/gpumem"
Eventually = Callable[..., Any]


def patch_capacity(kube: client.ApiClient, node: str, text: str) -> None:
    client.CoreV1Api(kube).patch_node_status(node, {"status": {"capacity": {CAPACITY: text}}})


def node(kube: client.ApiClient, name: str) -> Any:
    return client.CoreV1Api(kube).read_node(name)


def test_a_hollow_node_carries_its_labels_and_extended_resources(kube: client.ApiClient) -> None:
    hollow = node(kube, "hollow-0")
    wanted = {"nvidia.com/gpu.present": "true", "kubernetes.io/hostname": "hollow-0"}
    assert wanted.items() <= hollow.metadata.labels.items()
    assert hollow.status.allocatable["nvidia.com/gpu"] == "8"
    assert hollow.status.allocatable["example.com/fpga"] == "2"
    assert hollow.status.allocatable["cpu"] == "64"


def test_a_label_that_only_an_administrator_may_set_is_set_too(kube: client.ApiClient) -> None:
    assert node(kube, "hollow-0").metadata.labels["node-role.kubernetes.io/gpu"] == "yes"


def test_a_bare_node_is_ready_and_stays_alive_by_its_lease(kube: client.ApiClient, eventually: Eventually) -> None:
    bare = node(kube, "bare-0")
    assert bare.metadata.labels["lab.gpumem.io/bare"] == "true"
    assert bare.status.allocatable["nvidia.com/gpu"] == "8"
    leases = client.CoordinationV1Api(kube)
    first = eventually(lambda: leases.read_namespaced_lease("bare-0", "kube-node-lease").spec.renew_time)
    eventually(lambda: leases.read_namespaced_lease("bare-0", "kube-node-lease").spec.renew_time > first)


def test_a_capacity_patched_on_a_bare_node_becomes_allocatable(
    lab: Lab, kube: client.ApiClient, eventually: Eventually
) -> None:
    lab.node_add(LabNode("bare-sync", {}, {}, "bare"))
    try:
        patch_capacity(kube, "bare-sync", "14k")
        eventually(lambda: node(kube, "bare-sync").status.allocatable.get(CAPACITY) == "14k")
    finally:
        lab.node_remove("bare-sync")


@pytest.mark.parametrize("name", ["hollow-0", "bare-0"])
def test_a_new_registration_loses_what_others_wrote_and_keeps_what_is_the_nodes_own(
    lab: Lab, kube: client.ApiClient, name: str
) -> None:
    before = node(kube, name)
    patch_capacity(kube, name, "14k")
    lab.node_reregister(name)
    after = node(kube, name)
    assert after.metadata.uid != before.metadata.uid
    assert CAPACITY not in after.status.capacity
    assert after.status.allocatable["nvidia.com/gpu"] == "8"
    own = {key: value for key, value in before.metadata.labels.items() if "beta" not in key}
    assert own.items() <= after.metadata.labels.items()


@pytest.mark.parametrize("kind", ["hollow", "bare"])
def test_a_node_can_be_added_used_and_taken_away(
    lab: Lab, kube: client.ApiClient, eventually: Eventually, kind: Any
) -> None:
    name = f"later-{kind}"
    lab.node_add(LabNode(name, {"added": "later"}, {"example.com/card": 1}, kind))
    core = client.CoreV1Api(kube)
    pod = {
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": name},
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"example.com/card": "1"}}}],
        },
    }
    core.create_namespaced_pod("default", pod)
    eventually(lambda: core.read_namespaced_pod(name, "default").status.phase == "Running")
    core.delete_namespaced_pod(name, "default")
    eventually(lambda: name not in {item.metadata.name for item in core.list_namespaced_pod("default").items})
    lab.node_remove(name)
    assert name not in {item.metadata.name for item in core.list_node().items}
    with pytest.raises(LabInputError, match=f"has no node '{name}'; it has: bare-0"):
        lab.node_remove(name)


def test_a_name_that_is_there_already_is_refused(lab: Lab) -> None:
    with pytest.raises(LabInputError, match="node bare-0 is there already or named twice"):
        lab.node_add(LabNode("bare-0", {}, {}, "bare"))


@pytest.mark.parametrize("kind", ["hollow", "bare"])
def test_a_node_that_an_autoscaler_made_comes_to_life_and_is_let_go(
    lab: Lab, kube: client.ApiClient, eventually: Eventually, kind: NodeKind
) -> None:
    # With `system:node:` before it this is longer than a common name should be, as an autoscaler's names are.
    name = f"kwok-gpu-scale-abcde-adoring-mahavira-{kind}-2357111317"
    api = client.CoreV1Api(kube)
    provider_id = f"kwok://{name}"
    api.create_node({"metadata": {"name": name, "labels": {"pool": "made"}}, "spec": {"providerID": provider_id}})
    try:
        lab.node_adopt(LabNode(name, {}, {"nvidia.com/gpu": 4}, kind))
        eventually(lambda: (node(kube, name).status.allocatable or {}).get("nvidia.com/gpu") == "4")
        eventually(lambda: is_ready(api.api_client.sanitize_for_serialization(node(kube, name))))
        adopted = node(kube, name)
        assert (adopted.spec.provider_id, adopted.metadata.labels["pool"]) == (provider_id, "made")
    finally:
        api.delete_node(name)
        lab.node_let_go(name)
    assert name not in {each["name"] for each in cluster.status(lab.name, lab.paths.dir.parent.parent)["nodes"]}
    with pytest.raises(client.ApiException):
        node(kube, name)
