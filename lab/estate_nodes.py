"""The simulated nodes that an estate's GPU nodes need."""

from __future__ import annotations

import re

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.suggestion import did_you_mean
from lab.errors import LabInputError
from lab.state import LabNode, NodeKind

_NOT_IN_A_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")


def nodes_of_estate(estate: Estate, kind: NodeKind = "hollow") -> list[LabNode]:
    """`min_nodes` simulated nodes of each kind of node; none for an elastic pool (0).

    A node found by name has that name. Others have the estate's name for them, with a number where
    there are several. They carry the selector's labels, the labels that GPU feature discovery would
    set, and as many shares as the device plugin would offer; VRAM is not advertised, that is the
    project's own job.
    """
    return [
        LabNode(name, labels_of(node), {node.share_resource(): node.shares_count()}, kind)
        for node in estate.nodes
        for name in _names(node)
    ]


def node_of_kind(estate: Estate, entry: str, name: str) -> LabNode:
    """One more simulated machine, called `name`, of the node entry `entry`.

    Raises:
        LabInputError: the estate has no such entry; names the closest.
    """
    for node in estate.nodes:
        if node.name == entry:
            return LabNode(name, labels_of(node), {node.share_resource(): node.shares_count()})
    known = did_you_mean(entry, (node.name for node in estate.nodes))
    raise LabInputError(f'no node entry "{entry}" in the estate: {known}')


def _names(node: Node) -> list[str]:
    if node.min_nodes == 1:
        return [node.node_name or node.name]
    return [f"{node.name}-{number}" for number in range(node.min_nodes)]


def labels_of(node: Node) -> dict[str, str]:
    """What GPU feature discovery would write on such a node, and the labels that it is found by.

    Product and memory of mixed cards are left out: the upstream labels describe one model only.
    Source: k8s-device-plugin, internal/lm/resource.go (gpu.memory is one physical card in MiB;
    gpu.product ends in ``-SHARED`` where shares keep the resource's own name).
    """
    shared = node.sharing is not None
    renamed = node.sharing is not None and node.sharing.timeSlicing.renameByDefault
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(node.card_count),
        "nvidia.com/gpu.replicas": str(node.replicas_per_card),
        "nvidia.com/gpu.sharing-strategy": "time-slicing" if shared else "none",
    }
    if len(node.gpus) == 1:
        product = _NOT_IN_A_LABEL.sub("-", node.gpus[0].model)[:56].strip("-_.")
        labels["nvidia.com/gpu.product"] = f"{product}-SHARED" if shared and not renamed else product
        labels["nvidia.com/gpu.memory"] = str(node.gpus[0].physical_mib)
    return labels | (node.selector or {})
