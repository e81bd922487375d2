"""The simulated nodes of an estate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.domain.estate.nodes import Gpu, Node, SharedResource, Sharing, TimeSlicing
from helpers.rendering.estate_file import load_estate
from lab.errors import LabInputError
from lab.estate_nodes import labels_of, node_of_kind, nodes_of_estate

T4 = Gpu(model="Tesla T4", count=1, physical_mib=15360, reserve_mib=1360)


def sharing(*, renamed: bool) -> Sharing:
    resources = (SharedResource(name="nvidia.com/gpu", replicas=8),)
    return Sharing(timeSlicing=TimeSlicing(renameByDefault=renamed, resources=resources))


def test_a_shared_card_is_labelled_as_gpu_feature_discovery_would() -> None:
    node = Node(name="t4", selector={"pool": "gpu"}, gpus=(T4,), sharing=sharing(renamed=False))
    assert labels_of(node) == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.replicas": "8",
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
        "nvidia.com/gpu.product": "Tesla-T4-SHARED",
        "nvidia.com/gpu.memory": "15360",
        "pool": "gpu",
    }


def test_a_renamed_share_leaves_the_product_alone() -> None:
    node = Node(name="t4", selector={"pool": "gpu"}, gpus=(T4,), sharing=sharing(renamed=True))
    assert labels_of(node)["nvidia.com/gpu.product"] == "Tesla-T4"


def test_mixed_cards_have_no_product_and_no_memory_label() -> None:
    other = Gpu(model="NVIDIA L4", count=2, physical_mib=23034, reserve_mib=34)
    labels = labels_of(Node(name="mixed", selector={"pool": "gpu"}, gpus=(T4, other)))
    assert labels["nvidia.com/gpu.count"] == "3"
    assert labels["nvidia.com/gpu.sharing-strategy"] == "none"
    assert "nvidia.com/gpu.product" not in labels
    assert "nvidia.com/gpu.memory" not in labels


def test_the_selector_outranks_what_discovery_would_say() -> None:
    node = Node(name="t4", selector={"nvidia.com/gpu.product": "mine"}, gpus=(T4,))
    assert labels_of(node)["nvidia.com/gpu.product"] == "mine"


def test_another_machine_of_a_kind_carries_what_the_first_does() -> None:
    estate, _ = load_estate(Path("gpumem.yaml"))
    (first,) = nodes_of_estate(estate)
    assert node_of_kind(estate, "t4-node", "t4-spare") == replace(first, name="t4-spare")


def test_an_unknown_kind_names_the_closest() -> None:
    estate, _ = load_estate(Path("gpumem.yaml"))
    with pytest.raises(LabInputError, match='no node entry "t4-nod" in the estate: did you mean "t4-node"'):
        node_of_kind(estate, "t4-nod", "x")
