"""`gpumem migrate` on a running estate: to claims tenant by tenant, broken off and run again, and back.

A watcher looks all the time: what the number let in and what claims hold together never exceed a card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.adapters.logging_ import JsonLog
from helpers.apps.cli.__main__ import run
from helpers.domain.dra.holds import hold_allocation, hold_claim, hold_name
from helpers.domain.dra.migration import OldPod
from helpers.domain.dra.naming import DRIVER
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import ObjectRef
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from helpers.services.claims import observe_cards
from helpers.services.migrate import ToClaims, drop_hold
from helpers.services.migrate_facts import with_backend
from helpers.services.migrate_hands import Hands
from helpers.services.migrate_objects import Changes
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.lab.dra_scene import (
    Watcher,
    ground_by_number,
    make_device_class,
    owned_deployment,
    phases,
    publish,
    remove_ground,
)

pytestmark = pytest.mark.lab

NODE, NAMESPACE, SYSTEM, NUMBER = "dra-migrate-0", "dra-migrate", "dra-migrate-system", "dra.migrate/gpumem"
CARD_MIB = 14000
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: {NUMBER}
namespace: {SYSTEM}
label_prefix: dra.migrate
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
runtime_class: {{name: dra-migrate}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: t4
    selector: {{migrate-test: "true"}}
    gpus: [{{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: 1536}}
tenants:
  - name: chat
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: chat, container: main}}
    node: t4
    apply: create
    budget_mib: 6000
    class: realtime
    pod: {{containers: [{{name: main, image: "registry.example.com/chat:1"}}]}}
  - name: photos
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: photos, container: main}}
    node: t4
    apply: patch
    budget_mib: 4900
    class: realtime
    strategy: {{type: Recreate}}
  - name: night
    namespace: {NAMESPACE}
    workload: {{kind: StatefulSet, name: night, container: main}}
    node: t4
    apply: create
    budget_mib: 3000
    elastic: true
    class: batch
    pod: {{containers: [{{name: main, image: "registry.example.com/night:1"}}]}}
  - name: waits
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: waits, container: main}}
    node: t4
    apply: create
    budget_mib: 2000
    elastic: true
    class: batch
    pod: {{containers: [{{name: main, image: "registry.example.com/waits:1"}}]}}
"""


@pytest.fixture(scope="module")
def estate() -> Estate:
    return parse_estate(ESTATE, "estate.yaml")[0]


@pytest.fixture
def estate_file(tmp_path: Path) -> Path:
    path = tmp_path / "gpumem.yaml"
    path.write_text(ESTATE)
    return path


def stranger() -> dict[str, Any]:
    """A pod by the number that is no tenant's: nobody moves it, and claims must not get what it has."""
    container = {"name": "main", "image": "registry.example.com/x:1", "resources": {"limits": {NUMBER: "100"}}}
    spec = {"nodeSelector": {"migrate-test": "true"}, "containers": [container]}
    return {"metadata": {"name": "stranger"}, "spec": spec}


@pytest.fixture(scope="module")
def cluster(lab: Lab, estate: Estate) -> Iterator[KubernetesCluster]:
    """The estate as it runs by the number: 6000 + 4900 + 3000 of 14000, 100 of no tenant, and one that waits."""
    lab.node_add(LabNode(NODE, {"migrate-test": "true"}, {"nvidia.com/gpu": 8}, "bare"))
    cluster = connect(lab.kubeconfig)
    photos = owned_deployment(NAMESPACE, "photos", "main", {"nodeSelector": {"migrate-test": "true"}})
    ground_by_number(cluster, estate, NODE, CARD_MIB, photos)
    wait_for(partial(has_pod, cluster, "photos", "Running"))
    lab.api().post(f"/api/v1/namespaces/{SYSTEM}/pods", stranger())
    wait_for(lambda: set(phases(cluster, SYSTEM).values()) == {"Running"})
    for item in render(estate).objects:
        if item.component == "tenants":
            cluster.apply(item.manifest, field_manager="gpumem-terraform")
            wait_for(partial(has_pod, cluster, item.manifest["metadata"]["name"]))
    publish(cluster, NODE, [CARD_MIB], ["Tesla T4"])
    yield cluster
    remove_ground(lab, estate, NODE, NAMESPACE)


def by_claim(lab: Lab) -> set[str]:
    """Tenants that hold memory of the card by claim."""
    claims = lab.api().get(f"/apis/resource.k8s.io/v1/namespaces/{NAMESPACE}/resourceclaims")["items"]
    held = [one for one in claims if one.get("status", {}).get("reservedFor")]
    return {one["metadata"]["labels"]["dra.migrate/tenant"] for one in held}


def holds(lab: Lab) -> list[str]:
    claims = lab.api().get(f"/apis/resource.k8s.io/v1/namespaces/{SYSTEM}/resourceclaims")["items"]
    return [one["metadata"]["name"] for one in claims]


def counts(cluster: KubernetesCluster) -> tuple[int, int]:
    found = list(phases(cluster, NAMESPACE).values())
    return found.count("Running"), found.count("Pending")


def number(cluster: KubernetesCluster) -> str | None:
    node = cluster.get(ObjectRef("v1", "Node", NODE))
    assert node is not None
    found: str | None = node["status"]["capacity"].get(NUMBER)
    return found


def has_pod(cluster: KubernetesCluster, workload: str, phase: str = "") -> bool:
    found = phases(cluster, NAMESPACE)
    return any(pod.startswith(workload) and phase in ("", found[pod]) for pod in found)


def migrate(lab: Lab, estate_file: Path, to: str, *more: str) -> int:
    where = ["-f", str(estate_file), "--kubeconfig", str(lab.kubeconfig)]
    return run(["migrate", "--to", to, *where, "--wait", "60", *more])


def test_a_running_estate_moves_to_claims_and_back(
    lab: Lab, cluster: KubernetesCluster, estate: Estate, estate_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_for(lambda: counts(cluster) == (3, 1))

    assert migrate(lab, estate_file, "dra") == 0
    plan = capsys.readouterr().out
    assert "chat (6000 MiB): 1 pod stops and starts, on dra-migrate-0/gpu-0\n" in plan
    assert "waits (2000 MiB): no pod runs, so none stops; 1 Pending until there is room\n" in plan
    assert plan.index("  chat (") < plan.index("  photos (") < plan.index("  night (") < plan.index("  waits (")
    assert number(cluster) == "14k"
    assert not by_claim(lab)

    with Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "dra", "--execute") == 0
        wait_for(lambda: counts(cluster) == (3, 1))
    print(f"highest {watcher.highest_mib} MiB in {watcher.looks_count} looks")
    assert watcher.looks_count > 20
    assert watcher.highest_mib <= CARD_MIB - 100
    assert by_claim(lab) == {"chat", "photos", "night"}
    assert len(holds(lab)) == 1, "the stranger's, as long as it lives"
    assert number(cluster) is None
    assert lab.api().get(f"/apis/batch/v1/namespaces/{SYSTEM}/cronjobs")["items"] == []
    generations = generations_of(lab)

    assert migrate(lab, estate_file, "dra", "--execute") == 0, "a second run finds it done"
    assert generations_of(lab) == generations

    with Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "extendedResource", "--execute") == 0
        wait_for(lambda: counts(cluster) == (3, 1))
    assert watcher.highest_mib <= CARD_MIB - 100
    assert by_claim(lab) == set()
    assert holds(lab) == []
    assert number(cluster) == "14k"


def generations_of(lab: Lab) -> dict[str, int]:
    found = {}
    for kind in ("deployments", "statefulsets"):
        for item in lab.api().get(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}")["items"]:
            found[item["metadata"]["name"]] = item["metadata"]["generation"]
    return found


def test_a_move_that_was_broken_off_is_finished_by_the_next(
    lab: Lab, cluster: KubernetesCluster, estate: Estate, estate_file: Path
) -> None:
    assert migrate(lab, estate_file, "extendedResource", "--execute") == 0

    class BrokenOff(Exception):
        pass

    def say(text: str) -> None:
        if "photos: released" in text.replace("Deployment dra-migrate/", ""):
            raise BrokenOff

    target = with_backend(estate, ["t4"], "dra")
    log = JsonLog("test", version="0", dry_run=False, clock=SystemClock())
    events = KubernetesEvents(cluster, component="test", instance="test", clock=SystemClock(), log=log)
    hands = Hands(cluster, SystemClock(), events, log, say, 60)
    with pytest.raises(BrokenOff):
        ToClaims(hands, target, "t4", Changes(render(estate), render(target))).run()
    assert by_claim(lab) == {"chat"}
    assert len(holds(lab)) >= 1, "who still runs by the number is held for"
    assert migrate(lab, estate_file, "dra", "--execute") == 0
    wait_for(lambda: counts(cluster) == (3, 1))
    assert by_claim(lab) == {"chat", "photos", "night"}
    assert len(holds(lab)) == 1


def test_a_hold_keeps_claims_from_what_they_cannot_see(lab: Lab, cluster: KubernetesCluster) -> None:
    api, node = lab.api(), "dra-migrate-held"
    lab.node_add(LabNode(node, {"migrate-test": "held"}, {}, "bare"))
    make_device_class(cluster)
    try:
        publish(cluster, node, [CARD_MIB, CARD_MIB], ["Tesla T4", "Tesla T4"])
        pod = OldPod("elsewhere", "old-0", "4b0c5b1e-0000-4000-8000-000000000001", node, 6000)
        cards = [card for card in observe_cards(cluster, DRIVER) if card.node == node]
        made = cluster.create(hold_claim(pod, cards, SYSTEM, "dra.migrate"), field_manager="test")
        ref = ObjectRef("resource.k8s.io/v1", "ResourceClaim", hold_name(pod), SYSTEM)
        cluster.merge_patch(ref, hold_allocation(pod, cards), field_manager="test", subresource="status")
        claim = hold_claim(pod, cards[:1], NAMESPACE, "other")
        claim["metadata"] = {"name": "nine", "namespace": NAMESPACE}
        claim["spec"]["devices"]["requests"][0]["exactly"]["capacity"] = {"requests": {"memory": "9000Mi"}}
        cluster.create(claim, field_manager="test")
        use = {"name": "main", "image": "registry.example.com/x:1", "resources": {"claims": [{"name": "nine"}]}}
        spec = {
            "nodeSelector": {"migrate-test": "held"},
            "containers": [use],
            "resourceClaims": [{"name": "nine", "resourceClaimName": "nine"}],
        }
        api.post(f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": "nine"}, "spec": spec})
        refused = "cannot allocate all claims"
        wait_for(lambda: refused in json.dumps(api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/nine")["status"]))
        drop_hold(cluster, made)
        wait_for(partial(has_pod, cluster, "nine", "Running"))
    finally:
        api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/nine", {"gracePeriodSeconds": 0})
        lab.node_remove(node)


def test_the_rendered_estate_is_then_no_change(
    lab: Lab, cluster: KubernetesCluster, estate: Estate, estate_file: Path
) -> None:
    """What Terraform applies next finds its own fields with its own values."""
    assert migrate(lab, estate_file, "dra", "--execute") == 0
    generations = generations_of(lab)
    claimed = parse_estate(ESTATE.replace("\nnodes:", "\nbudget: {backend: dra}\nnodes:"), "estate.yaml")[0]
    for item in render(claimed).wave(1).objects:
        cluster.apply(item.manifest, field_manager="gpumem-terraform")
    assert generations_of(lab) == generations
