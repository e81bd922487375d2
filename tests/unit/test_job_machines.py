"""What the nodes have for jobs: what is there, what may still be made, and what is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.adapters.job_engines.cards import Cards, trimmed_node
from helpers.domain import names
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.room import Seats
from helpers.domain.jobs.settings import manager_settings
from tests.synth.estates import PROJECT, shipped

SETTINGS = manager_settings(shipped(PROJECT / "estates/gpu-pools.yaml"))
A100, T4 = Pool("A100", 80), Pool("T4", 16, "shared")


@pytest.fixture
def cards() -> Cards:
    assert SETTINGS is not None
    return Cards(SETTINGS)


def node(name: str, pool: str, *, spot: bool = False, ready: bool = True, **allocatable: int) -> dict[str, Any]:
    """A machine of a node pool."""
    labels = {names.NODE_POOL_LABEL: pool, names.CAPACITY_TYPE_LABEL: "spot" if spot else "on-demand"}
    there = {key.replace("__", "/").replace("_", "."): str(amount) for key, amount in allocatable.items()}
    status = {"allocatable": there, "conditions": [{"type": "Ready", "status": str(ready)}]}
    metadata = {"name": name, "uid": name, "labels": labels}
    return trimmed_node({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": status})


def test_without_a_machine_a_pool_is_as_large_as_it_may_become(cards: Cards) -> None:
    assert cards.capacity([])[A100] == 24
    assert [(room.amount, room.spot, room.count) for room in cards.rooms([], [], [])[A100].rooms] == [(8, None, 3)]


def test_a_machine_that_is_there_is_none_that_may_be_made(cards: Cards) -> None:
    machines = [node("a", "gpu-a100", spot=True, nvidia_com__gpu=8)]
    assert cards.capacity(machines)[A100] == 24
    rooms = [(room.name, room.amount, room.spot, room.count) for room in cards.rooms(machines, [], [])[A100].rooms]
    assert rooms == [("a", 8, True, 1), ("", 8, None, 2)]


def let_go(job_id: str, limits: dict[str, str], **said: str) -> dict[str, Any]:
    """A Job of two pods for whole A100s, as it is watched."""
    prefix = "" if SETTINGS is None else SETTINGS.label_prefix
    annotations = {names.job_annotation(prefix, what): value for what, value in {"pool": A100.name, **said}.items()}
    spec = {"suspend": False, "parallelism": 2, "limits": limits}
    return {"metadata": {"name": job_id, "uid": job_id, "annotations": annotations}, "spec": spec, "status": {}}


def test_who_was_let_go_and_is_on_no_node_is_known_with_what_it_avoids(cards: Cards) -> None:
    mine = let_go("mine", {"nvidia.com/gpu": "4"}, capacity="spot", avoids="a,b")
    other = let_go("other", {"example.com/another": "1"})  # what its nodes offered when it was made
    found = cards.rooms([], [mine, other], [])[A100].unplaced
    assert found == {"mine": Seats(4, 2, spot=True, avoids=frozenset("ab"))}


def test_what_is_paid_for_is_every_machine_of_the_estate_also_one_that_takes_no_pod(cards: Cards) -> None:
    machines = [
        node("a", "gpu-a100", spot=True, nvidia_com__gpu=8),
        node("b", "gpu-a100", ready=False),
        node("c", "gpu-t4", nvidia_com__gpu_shared=16),
        node("d", "somebody-elses", nvidia_com__gpu=4),
    ]
    assert cards.machines(machines) == {
        ("A100_80GB", "spot"): 8,
        ("A100_80GB", "on-demand"): 8,
        ("T4_16GB", "on-demand"): 4,
    }
    assert cards.machines([]) == {}
