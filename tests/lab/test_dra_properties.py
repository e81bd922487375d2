"""Random sets of tenants on claims, placed by the real scheduler: each set has a node of its own.

How many sets: GPUMEM_DRA_SETS; the pure half of the same property (tests/unit/test_dra_replay.py) always
takes a thousand. Nodes are bare Node objects, so pods are bound and nothing runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.dra.claims import CLAIM
from helpers.domain.dra.naming import DEVICE_CLASS, DRIVER, MODEL_ATTRIBUTE
from helpers.domain.dra.replay import Ask, replay
from helpers.domain.dra.slice_document import API_VERSION, memory_quantity
from helpers.domain.seating import seat
from lab.api import Api
from lab.cluster import Lab
from lab.nodes import bare_node
from lab.state import LabNode
from lab.waiting import wait_for
from tests.fixtures.random_tenants import TenantSet, tenant_set
from tests.lab.dra_scene import cards_of, make_device_class, publish

pytestmark = pytest.mark.lab

SETS = int(os.environ.get("GPUMEM_DRA_SETS", "40"))
BATCH = 40
NAMESPACE = "dra-properties"
CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{NAMESPACE}/resourceclaims"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def node_name(one: TenantSet) -> str:
    return f"dra-set-{one.seed}"


def claim(one: TenantSet, ask: Ask) -> dict[str, Any]:
    exactly: dict[str, Any] = {
        "deviceClassName": DEVICE_CLASS,
        "capacity": {"requests": {"memory": memory_quantity(ask.budget_mib)}},
    }
    if ask.model:
        expression = f'device.attributes["{DRIVER}"].{MODEL_ATTRIBUTE} == "{ask.model}"'
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaim",
        "metadata": {"name": f"set-{one.seed}-{ask.name}"},
        "spec": {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}},
    }


def pod(one: TenantSet, ask: Ask) -> dict[str, Any]:
    name = f"set-{one.seed}-{ask.name}"
    container = {"name": "main", "image": "registry.example.com/x:1", "resources": {"claims": [{"name": CLAIM}]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "nodeSelector": {"dra-set": str(one.seed)},
            # Nobody sends a heartbeat for a node that has no kubelet.
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "resourceClaims": [{"name": CLAIM, "resourceClaimName": name}],
        },
    }


@pytest.fixture(scope="module")
def api(lab: Lab) -> Iterator[Api]:
    api = lab.api()
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    make_device_class(connect(lab.kubeconfig))
    yield api
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")


def make(api: Api, cluster: KubernetesCluster, batch: list[TenantSet]) -> None:
    for one in batch:
        node = bare_node(LabNode(node_name(one), {"dra-set": str(one.seed)}, {}, "bare"), 0)
        # Only the label makes the lab's pod life take the node's pods.
        node["metadata"]["labels"].pop("lab.gpumem.io/bare")
        node["status"].pop("daemonEndpoints")
        api.post("/api/v1/nodes", node)
        publish(cluster, node_name(one), [c.left_mib for c in one.cards], [c.model for c in one.cards])
    for one in batch:
        for ask in one.asks:
            api.post(CLAIMS, claim(one, ask))
    # Within a set one after the other: the scheduler takes pods of one priority in the order of their creation.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: [api.post(PODS, pod(one, ask)) for ask in one.asks], batch))


def places(api: Api, cluster: KubernetesCluster) -> dict[str, str]:
    """Each placed pod's card, once the scheduler has said yes or no to each of them and the claims say the same."""
    pods: list[dict[str, Any]] = api.get(PODS)["items"]
    told = [any(c["type"] == "PodScheduled" for c in one["status"].get("conditions", ())) for one in pods]
    placed = {name: card for name, (_, card, _) in cards_of(cluster, NAMESPACE).items()}
    bound = {one["metadata"]["name"] for one in pods if one["spec"].get("nodeName")}
    return placed if all(told) and bound == set(placed) else {}


def remove(api: Api, batch: list[TenantSet]) -> None:
    api.delete(PODS, {"gracePeriodSeconds": 0})
    api.delete(CLAIMS)
    wait_for(lambda: not api.get(PODS)["items"] and not api.get(CLAIMS)["items"])
    for one in batch:
        api.delete(f"/api/v1/nodes/{node_name(one)}")
        api.delete(f"/apis/resource.k8s.io/v1/resourceslices/{node_name(one)}-{DRIVER}")


@dataclass
class Tally:
    """What was seen over all sets. `as_replayed`: sets in which every pod is on the very card of the replay."""

    pods: int = 0
    all_placed: int = 0
    as_replayed: int = 0
    pending_beside_room: int = 0


def check(one: TenantSet, placed: dict[str, str], tally: Tally) -> None:
    """What must hold of every set."""
    names = {ask.name: f"set-{one.seed}-{ask.name}" for ask in one.asks}
    left_mib = {card.name: card.left_mib for card in one.cards}
    for ask in one.asks:
        if card := placed.get(names[ask.name]):
            left_mib[card] -= ask.budget_mib
            assert left_mib[card] >= 0, f"set {one.seed}: {card} is over-committed"
            assert ask.model in (None, next(each.model for each in one.cards if each.name == card)), one.seed
    pending = [ask for ask in one.asks if names[ask.name] not in placed]
    seating = seat(one.pods(), one.slots(), 0)
    if not seating.complete and seating.proved:
        assert pending, f"set {one.seed}: the ledger calls it impossible, and it runs"
    ends = [replace(card, left_mib=left_mib[card.name]) for card in one.cards]
    tally.pending_beside_room += sum(replay(ends, [ask])[ask.name] is not None for ask in pending)
    tally.all_placed += not pending
    tally.as_replayed += replay(one.cards, one.asks) == {ask.name: placed.get(names[ask.name]) for ask in one.asks}
    tally.pods += len(one.asks)


def test_no_card_is_over_committed_and_the_replayed_ledger_agrees(api: Api, lab: Lab) -> None:
    cluster, tally = connect(lab.kubeconfig), Tally()
    for start in range(0, SETS, BATCH):
        batch = [tenant_set(seed) for seed in range(start, min(start + BATCH, SETS))]
        try:
            make(api, cluster, batch)
            placed = wait_for(lambda: places(api, cluster))
            for one in batch:
                check(one, placed, tally)
        finally:
            remove(api, batch)
    print(f"{SETS} sets on the real scheduler: {tally}")
    assert 0 < tally.all_placed < SETS
    # While a claim is on its way into the API, Kubernetes 1.36's scheduler can count it twice: a pod may then take
    # a later card, or wait for a moment beside room. Never the other way round.
    assert tally.as_replayed >= 0.95 * SETS
    assert tally.pending_beside_room <= 0.01 * tally.pods + 1
