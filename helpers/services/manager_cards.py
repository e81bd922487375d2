"""Nodes, their cards, and which jobs are on them: looked at when somebody asks, but not for everybody anew."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helpers.domain.errors import ClusterError
from helpers.domain.jobs.cards import GpuNode, NodeCards, Seated, node_cards
from helpers.domain.jobs.states import HOLDING
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.ports.job_engine import JobEngine
from helpers.services.manager_queue import QueueBoard

KEPT_SECONDS = 5.0
_NODES = ObjectRef("v1", "Node")
_CARDS_LABEL, _PRODUCT_LABEL, _CARDS_RESOURCE = "nvidia.com/gpu.count", "nvidia.com/gpu.product", "nvidia.com/gpu"


@dataclass(frozen=True)
class CardsSeen:
    """One look. `unplaced`: jobs that hold cards, and of which no node is known yet."""

    at: datetime
    nodes: tuple[NodeCards, ...]
    unplaced: tuple[str, ...]


class CardBoard:
    """Looks, and keeps what was seen for a moment: a page that many have open asks the cluster once."""

    def __init__(self, cluster: Cluster, engine: JobEngine, board: QueueBoard, clock: Clock) -> None:
        self._cluster = cluster
        self._engine = engine
        self._board = board
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[float, CardsSeen] | None = None

    def look(self) -> CardsSeen:
        """What is seen now, or was a moment ago.

        Raises:
            ClusterError: the cluster does not answer.
        """
        with self._lock:
            now_seconds = self._clock.monotonic_seconds()
            if self._seen is None or now_seconds > self._seen[0] + KEPT_SECONDS:
                self._seen = (now_seconds, self._look())
            return self._seen[1]

    def _look(self) -> CardsSeen:
        observed = self._engine.observe()
        seated: defaultdict[str, list[Seated]] = defaultdict(list)
        unplaced = []
        for row in self._board.last.rows:
            if row.status not in HOLDING:
                continue
            on = observed[row.job_id].nodes if row.job_id in observed else ()
            if not on:
                unplaced.append(row.job_id)
            for name, count in Counter(on).items():
                seated[name].append(Seated(row.job_id, row.project_id, row.demand, count))
        nodes = [node for manifest in self._cluster.list(_NODES) if (node := gpu_node(manifest)) is not None]
        found = tuple(node_cards(node, seated[node.name]) for node in sorted(nodes, key=lambda node: node.name))
        return CardsSeen(self._clock.now_at(), found, tuple(sorted(unplaced)))


def gpu_node(manifest: Mapping[str, Any]) -> GpuNode | None:
    """The node with its cards; None: it has none. With time-slicing the resource counts turns, the label cards.

    Raises:
        ClusterError: what it says about its cards is no number.
    """
    name, labels = manifest["metadata"]["name"], manifest["metadata"].get("labels") or {}
    allocatable = (manifest.get("status") or {}).get("allocatable") or {}
    text = str(labels.get(_CARDS_LABEL) or allocatable.get(_CARDS_RESOURCE) or "0")
    if not text.isdecimal():
        raise ClusterError(f"Node {name} says that it has {text!r} cards, which is no whole number")
    return GpuNode(name, str(labels.get(_PRODUCT_LABEL) or "GPU"), int(text)) if int(text) else None
