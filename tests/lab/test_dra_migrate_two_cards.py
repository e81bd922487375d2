"""`gpumem migrate` where a node has two cards, with the tenants of the second reference's estate.

By the number nobody can tell which card a pod is on, so each is held for on both, and the first tenants find no room
until the others have moved. By the number and by claims alike both cards are full to the last MiB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.apps.cli.__main__ import run
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.lab.dra_scene import Watcher, cards_of, ground_by_number, owned_deployment, phases, publish, remove_ground
from tests.synth.estates import PROJECT

pytestmark = pytest.mark.lab

NODE, NAMESPACE, SYSTEM, NUMBER = "dra-two-cards-0", "dra-two-cards", "dra-two-cards-system", "dra.two-cards/gpumem"
CARD_MIB = 24000
TENANTS = ("ollama", "comfyui", "high-priority-ai", "llm-apps")
# The shipped estate with names of its own in the lab, and without those who write other files or need other CRDs.
CHANGES = {
    "resource: viktorbarzin.me/gpumem": f"resource: {NUMBER}\nlabel_prefix: dra.two-cards\n"
    "runtime_class: {name: dra-two-cards}",
    "namespace: gpu-operator #": f"namespace: {SYSTEM} #",
    "namespace: ai\n": f"namespace: {NAMESPACE}\n",
    "selector: {node-type: gpu-worker}": 'selector: {two-cards: "true"}',
    "high-priority,": "dra-two-cards-high,",
    "priority: high-priority\n": "priority: dra-two-cards-high\n",
    "medium-priority,": "dra-two-cards-medium,",
    "priority: medium-priority\n": "priority: dra-two-cards-medium\n",
    # Here it is Terraform that applied it.
    "gitops: # Argo CD applies it all; the operator's Application, too, in a project of its own.\n  engine: argocd\n"
    "  repo_url: https://git.example.com/talos/infrastructure.git\n  path: infrastructure/gpu\n": "",
    # Its rule about pods without a budget would be everybody's in the lab.
    "\nadmission: {required_budget: deny}": "\n#",
    "          volumeMounts: [{name: ollama-models, mountPath: /root/.ollama}]\n": "",
    "      volumes:\n        - {name: ollama-models, persistentVolumeClaim: {claimName: ollama-models-pvc}}\n": "",
}


def estate_text() -> str:
    text = (PROJECT / "estates/talos-2x3090.yaml").read_text()
    for old, new in CHANGES.items():
        assert old in text, f"the estate does not hold {old!r}"
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def estate() -> Estate:
    return parse_estate(estate_text(), "estate.yaml")[0]


@pytest.fixture
def estate_file(tmp_path: Path) -> Path:
    path = tmp_path / "gpumem.yaml"
    path.write_text(estate_text())
    return path


@pytest.fixture(scope="module")
def cluster(lab: Lab, estate: Estate) -> Iterator[KubernetesCluster]:
    """All four run by the number: 16000 + 16000 + 8000 + 8000 of 48000."""
    lab.node_add(LabNode(NODE, {"two-cards": "true"}, {"nvidia.com/gpu": 8}, "bare"))
    cluster = connect(lab.kubeconfig)
    # As its owner has it: two shares and a budget are put in by us.
    pod = {"nodeSelector": {"two-cards": "true"}, "tolerations": [{"operator": "Exists"}]}
    ground_by_number(cluster, estate, NODE, 2 * CARD_MIB, owned_deployment(NAMESPACE, "comfyui", "comfyui", pod))
    for item in render(estate).objects:
        if item.component == "tenants":
            cluster.apply(item.manifest, field_manager="gpumem-terraform")
    publish(cluster, NODE, [CARD_MIB, CARD_MIB])
    yield cluster
    for name in ("dra-two-cards-high", "dra-two-cards-medium"):
        lab.api().delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")
    remove_ground(lab, estate, NODE, NAMESPACE)


def all_run(cluster: KubernetesCluster) -> bool:
    found = phases(cluster, NAMESPACE)
    return len(found) == len(TENANTS) and set(found.values()) == {"Running"}


def on_cards(cluster: KubernetesCluster) -> dict[str, int]:
    """`{card: MiB}` of all claims that pods use."""
    taken: Counter[str] = Counter()
    for _, card, mib in cards_of(cluster, NAMESPACE).values():
        taken[card] += mib
    return dict(taken)


def migrate(lab: Lab, estate_file: Path, to: str, *more: str) -> int:
    where = ["-f", str(estate_file), "--kubeconfig", str(lab.kubeconfig)]
    return run(["migrate", "--to", to, *where, "--wait", "60", *more])


def test_two_full_cards_move_to_claims_and_back(
    lab: Lab, cluster: KubernetesCluster, estate_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_for(partial(all_run, cluster))
    assert migrate(lab, estate_file, "dra") == 0
    plan = capsys.readouterr().out
    turns = [line.split()[0] for line in plan.splitlines() if line.startswith("  ") and "MiB):" in line]
    assert sorted(turns) == sorted(TENANTS)
    assert "comfyui (16000 MiB): 1 pod stops and starts; 1 Pending until there is room\n" in plan
    assert all_run(cluster), "a plan stops nobody"

    with Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "dra", "--execute") == 0
        wait_for(partial(all_run, cluster))
    print(f"highest {watcher.highest_mib} MiB, a card {watcher.highest_card_mib} MiB, {watcher.looks_count} looks")
    assert watcher.looks_count > 20
    assert watcher.highest_mib <= 2 * CARD_MIB
    assert watcher.highest_card_mib <= CARD_MIB
    assert on_cards(cluster) == {"gpu-0": CARD_MIB, "gpu-1": CARD_MIB}
    holds = lab.api().get(f"/apis/resource.k8s.io/v1/namespaces/{SYSTEM}/resourceclaims")["items"]
    assert holds == []

    with Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "extendedResource", "--execute") == 0
        wait_for(partial(all_run, cluster))
    assert watcher.highest_mib <= 2 * CARD_MIB
    assert on_cards(cluster) == {}
