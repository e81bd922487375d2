"""Two cards of 24000 MiB and three tenants of 16000, with the real scheduler: the number lets all in, claims do not.

A bare node: the pods' life is the lab's stand-in, and its slice is published by the test as the agent would.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.budget import budget_fields
from helpers.domain.capacity import capacity_settings
from helpers.domain.dra.naming import DRIVER
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.ports.cluster import ObjectRef
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from helpers.services.budget import set_budget
from helpers.services.gate import verify
from helpers.services.live import live_report
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.lab.dra_scene import cards_of, make_device_class, phases, publish
from tests.synth.estates import PROJECT

pytestmark = pytest.mark.lab

NODE, NAMESPACE = "dra-claims-0", "dra-claims-ai"
CARDS_MIB = (24000, 24000)
NUMBER = "dra.claims/gpumem"
# A claim on a volume that nobody makes would keep the pod Pending for another reason.
VOLUMES = """          volumeMounts: [{name: ollama-models, mountPath: /root/.ollama}]
      volumes:
        - {name: ollama-models, persistentVolumeClaim: {claimName: ollama-models-pvc}}
"""


def estate(backend: str, third_mib: int) -> Estate:
    """The Talos estate on this test's node; its third tenant with another budget."""
    text = (PROJECT / "estates/talos-2x3090.yaml").read_text()
    for old, new in {
        "node-type: gpu-worker": "node-type: dra-claims",
        "namespace: ai\n": f"namespace: {NAMESPACE}\n",
        "\nnodes:": f"\nbudget: {{backend: {backend}}}\nnodes:",
        "resource: viktorbarzin.me/gpumem": f"resource: {NUMBER}",
        "budget_mib: 8000\n    class: realtime": f"budget_mib: {third_mib}\n    class: realtime",
        VOLUMES: "",
    }.items():
        assert old in text
        text = text.replace(old, new)
    return parse_estate(text, "estate.yaml", allow_overcommit=True)[0]


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[KubernetesCluster]:
    lab.node_add(LabNode(NODE, {"node-type": "dra-claims"}, {"nvidia.com/gpu": 8}, "bare"))
    cluster = connect(lab.kubeconfig)
    make_device_class(cluster)
    yield cluster
    lab.node_remove(NODE)


@pytest.fixture
def namespace(lab: Lab, cluster: KubernetesCluster) -> Iterator[str]:
    wait_for(lambda: cluster.get(ObjectRef("v1", "Namespace", NAMESPACE)) is None)
    yield NAMESPACE
    lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}")
    for name in ("high-priority", "medium-priority"):
        lab.api().delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


def show_number(lab: Lab, text: str | None = "48k") -> None:
    """None: takes it off, as an apply with claims does."""
    amounts = {NUMBER: text}
    lab.api().patch(f"/api/v1/nodes/{NODE}/status", {"status": {"capacity": amounts, "allocatable": amounts}})


def comfyui() -> dict[str, Any]:
    """The workload that is somebody else's, as its owner applies it."""
    labels = {"app": "comfyui"}
    pod = {
        "nodeSelector": {"node-type": "dra-claims"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "comfyui", "image": "registry.example.com/comfyui:1"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "comfyui", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def has_pod(cluster: KubernetesCluster, workload: str) -> bool:
    return any(pod.startswith(workload) for pod in phases(cluster, NAMESPACE))


def start(cluster: KubernetesCluster, lab: Lab, wanted: Estate) -> None:
    """What Terraform applies of wave 1, with the budget of the foreign workload, and then the pods; no elastic one."""
    rendered = render(wanted)
    (runtime_class,) = [item.manifest for item in rendered.objects if item.kind == "RuntimeClass"]
    for manifest in (runtime_class, *(item.manifest for item in rendered.wave(1).objects), comfyui()):
        cluster.apply(manifest, field_manager="test", force=True)
    foreign = next(tenant for tenant in wanted.tenants if tenant.apply == "patch")
    set_budget(cluster, budget_fields(wanted, foreign))
    for name in ("ollama", "comfyui", "high-priority-ai"):
        lab.api().patch(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}/scale", {"spec": {"replicas": 1}})
        wait_for(partial(has_pod, cluster, name))
    lab.api().patch(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/llm-apps/scale", {"spec": {"replicas": 0}})


def settled(cluster: KubernetesCluster, running: int, pending: int) -> None:
    def look() -> bool:
        found = list(phases(cluster, NAMESPACE).values())
        return (found.count("Running"), found.count("Pending"), len(found)) == (running, pending, running + pending)

    wait_for(look)


def test_the_number_lets_three_in_where_the_cards_hold_two(
    cluster: KubernetesCluster, lab: Lab, namespace: str
) -> None:
    wanted = estate("extendedResource", 16000)
    show_number(lab)
    assert not build_ledger(wanted).nodes[0].seated, "no card holds two of 16000"
    start(cluster, lab, wanted)
    settled(cluster, 3, 0)


def test_claims_let_in_the_two_that_the_cards_hold(cluster: KubernetesCluster, lab: Lab, namespace: str) -> None:
    wanted = estate("dra", 16000)
    show_number(lab, None)
    publish(cluster, NODE, CARDS_MIB)
    start(cluster, lab, wanted)
    settled(cluster, 2, 1)
    # The claim of the elastic pod that was scaled away goes a moment after the pod.
    wait_for(lambda: sorted(cards_of(cluster, namespace).values()) == [(NODE, "gpu-0", 16000), (NODE, "gpu-1", 16000)])


def test_what_the_ledger_seats_runs_on_claims(cluster: KubernetesCluster, lab: Lab, namespace: str) -> None:
    wanted = estate("dra", 8000)
    show_number(lab, None)
    publish(cluster, NODE, CARDS_MIB)
    assert build_ledger(wanted).nodes[0].seated
    assert verify(cluster, capacity_settings(wanted), SystemClock(), 0) == ()
    start(cluster, lab, wanted)
    settled(cluster, 3, 0)
    wait_for(lambda: sorted(mib for _, _, mib in cards_of(cluster, namespace).values()) == [8000, 16000, 16000])
    (row,) = live_report(cluster, wanted).nodes
    assert row.shown_mib == {NODE: 48000}
    assert sorted((card.uuid, card.claimed_mib) for card in row.live_cards) in (
        [(f"GPU-{NODE}-0", 16000), (f"GPU-{NODE}-1", 24000)],
        [(f"GPU-{NODE}-0", 24000), (f"GPU-{NODE}-1", 16000)],
    )
    running = {each.tenant: each.state.text() for each in row.tenants if each.state}
    assert running["ollama"] in (f"1 Running on {NODE}/gpu-0", f"1 Running on {NODE}/gpu-1")
    path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"

    def whose() -> dict[str, Any]:
        return {claim["metadata"]["labels"]["gpumem.io/tenant"]: claim for claim in lab.api().get(path)["items"]}

    # That of the pod that was scaled away goes a moment later.
    wait_for(lambda: whose().keys() == {"ollama", "comfyui", "high-priority-ai"}, instead=whose)
    assert {
        result["driver"] for claim in whose().values() for result in claim["status"]["allocation"]["devices"]["results"]
    } == {DRIVER}
