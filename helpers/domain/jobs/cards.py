"""How the jobs of a node sit on its cards, for people to look at.

The manager knows on which node a job's pods are, and what they hold; which card of the node each got is the
device plugin's choice. So this is one way in which all of it fits, in a stable order, and no claim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from helpers.domain.jobs.gpus import Demand, instance_ratio, mib_of_gb

# Sums of parts of a card may miss 1 by a rounding.
_SLACK_RATIO = 1e-9


@dataclass(frozen=True)
class GpuNode:
    """A node and its cards."""

    name: str
    gpu: str
    cards_count: int


@dataclass(frozen=True)
class Seated:
    """A job's pods on one node. `workers_count`: how many of them."""

    job_id: str
    project_id: str
    demand: Demand
    workers_count: int


@dataclass(frozen=True)
class Part:
    """What a job holds of one card, 0 to 1."""

    job_id: str
    project_id: str
    ratio: float


@dataclass(frozen=True)
class NodeCards:
    """A node's cards, each with what is on it; `beyond`: jobs that found no card, because two looks did not agree."""

    node: GpuNode
    cards: tuple[tuple[Part, ...], ...]
    beyond: tuple[str, ...]


def node_cards(node: GpuNode, seated: Iterable[Seated]) -> NodeCards:
    """The jobs on the cards: the largest parts first, then by their ids."""
    cards: list[list[Part]] = [[] for _ in range(node.cards_count)]
    left = [1.0] * node.cards_count
    beyond: set[str] = set()
    for one in sorted(seated, key=lambda seat: (-_worker_ratio(seat.demand), seat.job_id)):
        for ratio in [part for _ in range(one.workers_count) for part in _parts(one.demand)]:
            place = next((index for index, free in enumerate(left) if ratio <= free + _SLACK_RATIO), None)
            if place is None:
                beyond.add(one.job_id)
                continue
            left[place] -= ratio
            cards[place].append(Part(one.job_id, one.project_id, ratio))
    return NodeCards(node, tuple(map(tuple, cards)), tuple(sorted(beyond)))


def _parts(demand: Demand) -> list[float]:
    """What one worker takes, card by card."""
    if demand.pool.kind == "shared":
        return [demand.worker_amount / mib_of_gb(demand.pool.size_gb)]
    ratio = instance_ratio(demand.pool) if demand.pool.kind == "mig" else 1.0
    return [ratio] * demand.worker_amount


def _worker_ratio(demand: Demand) -> float:
    return max(_parts(demand), default=0.0)
