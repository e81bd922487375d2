"""Labels and status of simulated nodes."""

from __future__ import annotations

from typing import Any

from lab.nodes import bare_node, is_ready, split_labels
from lab.pod_life.heartbeats import status_patch
from lab.state import LabNode


def bare() -> dict[str, Any]:
    return bare_node(LabNode("n", {"pool": "x"}, {"nvidia.com/gpu": 8}, "bare"), 1234)


def test_labels_of_kubernetes_own_namespaces_are_left_to_the_administrator() -> None:
    own, restricted = split_labels(
        {
            "pool": "x",
            "nvidia.com/gpu.present": "true",
            "topology.kubernetes.io/zone": "a",
            "node.kubernetes.io/instance-type": "b",
            "node-role.kubernetes.io/gpu": "",
            "pod-security.kubernetes.io/x": "y",
            "cloud.k8s.io/z": "z",
        }
    )
    assert sorted(restricted) == ["cloud.k8s.io/z", "node-role.kubernetes.io/gpu", "pod-security.kubernetes.io/x"]
    assert len(own) == 4


def test_a_bare_node_registers_ready_with_its_labels_and_resources() -> None:
    node = bare()
    assert is_ready(node)
    assert node["metadata"]["labels"].items() >= {"pool": "x", "kubernetes.io/hostname": "n"}.items()
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 1234


def test_a_node_in_order_needs_no_status_write() -> None:
    assert status_patch(bare()) is None


def test_allocatable_follows_a_capacity_that_came_or_went() -> None:
    came, went = bare(), bare()
    came["status"]["capacity"] = came["status"]["capacity"] | {"x/gpumem": "14k"}
    went["status"]["allocatable"] = went["status"]["allocatable"] | {"x/gpumem": "14k"}
    patch = status_patch(came)
    assert patch is not None
    assert patch["status"]["allocatable"]["x/gpumem"] == "14k"
    patch = status_patch(went)
    assert patch is not None
    assert patch["status"]["allocatable"]["x/gpumem"] is None


def test_a_node_that_was_given_up_says_again_that_it_is_ready() -> None:
    node = bare()
    for condition in node["status"]["conditions"]:
        condition["status"] = "Unknown"
    patch = status_patch(node)
    assert patch is not None
    assert [(each["type"], each["status"]) for each in patch["status"]["conditions"]] == [("Ready", "True")]
