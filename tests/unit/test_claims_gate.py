"""The gate where budgets are claims: opens when the cards are offered, and nobody is counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.capacity import CapacitySettings, ClaimNode
from helpers.domain.dra.devices import Device, Taint
from helpers.domain.dra.naming import DRIVER
from helpers.domain.dra.offers import held_memory, offered_cards
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice
from helpers.domain.estate.model import Estate
from helpers.domain.names import GATE_SERVICE_ACCOUNT
from helpers.ports.cluster import ObjectRef
from helpers.rendering.gitops_steps import with_step_rights
from helpers.rendering.render import render
from helpers.services.gate import verify
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock
from tests.fakes.world import RESOURCE, node, pod, settings
from tests.synth.estates import example, on_both_backends, on_claims

LABELS = {"node-type": "gpu-worker"}
KIND = ClaimNode(name="gpu-worker", node_name=None, labels=LABELS, min_nodes=1, cards_mib=(24000, 24000))


def claims_alone(kind: ClaimNode = KIND) -> CapacitySettings:
    return settings().model_copy(update={"nodes": (), "claim_nodes": (kind,), "claims_driver": DRIVER})


def published(name: str, *cards_mib: int, generation: int = 1) -> dict[str, Any]:
    devices = [
        Device(f"gpu-{index}", f"GPU-{name}-{index}", "RTX 3090", index, mib) for index, mib in enumerate(cards_mib)
    ]
    return desired_slice(NodeIdentity(name, f"uid-{name}"), devices, generation)


def claim(name: str, pool: str, device: str, memory: str, *, pods: tuple[str, ...] = ()) -> dict[str, Any]:
    result = {"driver": DRIVER, "pool": pool, "device": device, "request": "gpumem"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "ai"},
        "status": {
            "allocation": {"devices": {"results": [{**result, "consumedCapacity": {"memory": memory}}]}},
            "reservedFor": [{"resource": "pods", "name": one, "uid": f"uid-{one}"} for one in pods],
        },
    }


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.add(node("gpu-0", LABELS))
    return cluster


def messages(cluster: FakeCluster, wanted: CapacitySettings) -> list[str]:
    return [shortfall.message() for shortfall in verify(cluster, wanted, FakeClock(), 0)]


def test_it_is_open_where_the_cards_are_offered(cluster: FakeCluster) -> None:
    cluster.add(published("gpu-0", 24000, 24100))
    assert messages(cluster, claims_alone()) == []


def test_a_node_that_offers_nothing_or_less_is_named(cluster: FakeCluster) -> None:
    driver = "node gpu-0: gpu.gpumem.io offers"
    wanted = "wanted cards of 24000 + 24000 MiB or more"
    assert messages(cluster, claims_alone()) == [f"{driver} no card, {wanted}"]
    cluster.add(published("gpu-0", 24000, 23999))
    assert messages(cluster, claims_alone()) == [f"{driver} cards of 24000 + 23999 MiB, {wanted}"]


def test_too_few_nodes_are_named(cluster: FakeCluster) -> None:
    cluster.add(published("gpu-0", 24000, 24000))
    (message,) = messages(cluster, claims_alone(KIND.model_copy(update={"min_nodes": 2})))
    assert message == (
        "nodes[gpu-worker]: 1 node(s) with {'node-type': 'gpu-worker'}, wanted 2, each with cards of 24000 + 24000 MiB"
    )


def test_a_pod_that_the_number_let_in_keeps_it_closed(cluster: FakeCluster) -> None:
    cluster.add(published("gpu-0", 24000, 24000))
    cluster.add(pod("ollama-0", "16k", namespace="ai"))
    (message,) = messages(cluster, claims_alone())
    assert message == (
        "node gpu-0: still holds budgets by number: ai/ollama-0 (16000 MiB), "
        "wanted claims alone (gpumem migrate --to dra)"
    )


def test_a_number_beside_claims_keeps_it_closed(cluster: FakeCluster) -> None:
    cluster.add(published("gpu-0", 24000, 24000))
    cluster.write(ObjectRef("v1", "Node", "gpu-0"), {"status": {"capacity": {RESOURCE: "48k"}}}, subresource="status")
    (message,) = messages(cluster, claims_alone())
    assert message == (
        f"node gpu-0: still shows {RESOURCE}: 48000 MiB, "
        "wanted no number beside claims (gpumem migrate --to dra, or what gpumem doctor prints)"
    )
    cluster.write(ObjectRef("v1", "Node", "gpu-0"), {"status": {"capacity": {RESOURCE: "0"}}}, subresource="status")
    assert messages(cluster, claims_alone()) == [], "0 lets nobody in"


def test_a_claim_on_a_node_with_a_number_keeps_it_closed(cluster: FakeCluster) -> None:
    cluster.add(published("gpu-0", 24000, 24000))
    cluster.add(node("t4", resources={RESOURCE: "14k"}))
    cluster.add(published("t4", 14000))
    cluster.add(claim("llm-x", "t4", "gpu-0", "5000Mi"))
    (message,) = messages(cluster, claims_alone().model_copy(update={"nodes": settings().nodes}))
    assert message == (
        "node t4: still holds budgets by claim: ai/llm-x, "
        "wanted the number alone (gpumem migrate --to extendedResource)"
    )


@pytest.mark.parametrize(("key", "effect"), [("lost", "NoExecute"), ("xid", "NoSchedule")])
def test_a_card_with_a_taint_is_not_offered(cluster: FakeCluster, key: Any, effect: Any) -> None:
    devices = [
        Device(f"gpu-{index}", f"GPU-{index}", "RTX 3090", index, 24000, taints=taints)
        for index, taints in enumerate([(), (Taint(key, effect),)])
    ]
    cluster.add(desired_slice(NodeIdentity("gpu-0", "uid-gpu-0"), devices, 1))
    (message,) = messages(cluster, claims_alone())
    assert message == (
        f"node gpu-0: {DRIVER} offers cards of 24000 MiB; gpu-1 has the taint {DRIVER}/{key}:{effect}, "
        "wanted cards of 24000 + 24000 MiB or more"
    )


def test_only_the_newest_generation_of_a_pool_is_offered() -> None:
    old, new = published("gpu-0", 24000, 24000), published("gpu-0", 24000, generation=2)
    cards = offered_cards([old, new], DRIVER)
    assert [(card.node, card.device, card.memory_mib, card.uuid) for card in cards] == [
        ("gpu-0", "gpu-0", 24000, "GPU-gpu-0-0")
    ]


def test_other_drivers_and_unallocated_claims_hold_nothing() -> None:
    other = claim("nic", "gpu-0", "eth0", "1Gi")
    other["status"]["allocation"]["devices"]["results"][0]["driver"] = "nic.example.com"
    waiting: dict[str, Any] = {"metadata": {"name": "waits", "namespace": "ai"}}
    mine = claim("ollama-x", "gpu-0", "gpu-1", "16000Mi", pods=("ollama-0",))
    (held,) = held_memory([other, waiting, mine], DRIVER)
    assert (held.claim, held.key, held.memory_mib, held.pods) == (
        "ollama-x",
        (DRIVER, "gpu-0", "gpu-1"),
        16000,
        ("ollama-0",),
    )


@pytest.mark.parametrize(
    ("estate", "listed"),
    [
        (example(), {"nodes"}),
        (on_claims(), {"nodes", "pods", "resourceslices", "resourceclaims"}),
        (on_both_backends(), {"nodes", "pods", "resourceslices", "resourceclaims"}),
    ],
    ids=["number", "claims", "both"],
)
def test_the_gates_job_may_list_what_it_asks_for_and_no_more(estate: Estate, listed: set[str]) -> None:
    rendered = with_step_rights(estate, render(estate))
    (role,) = [
        item.manifest
        for item in rendered.objects
        if (item.kind, item.manifest["metadata"]["name"]) == ("ClusterRole", GATE_SERVICE_ACCOUNT)
    ]
    assert {tuple(rule["verbs"]) for rule in role["rules"]} == {("list",)}
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == listed
