"""`gpumem migrate` beside others: an old watch that still runs, a stranger's claim, and tenants that no scaling moves.

Two nodes of one card each, with a DaemonSet, a tenant behind a demand gate, and one whose pods get theirs at admission.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.apps.cli.__main__ import run
from helpers.domain import names
from helpers.domain.capacity import capacity_settings
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import ObjectRef
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.lab.dra_scene import Watcher, cards_of, ground_by_number, owned_deployment, phases, publish, remove_ground

pytestmark = pytest.mark.lab

NODES, NAMESPACE, SYSTEM, NUMBER = ("dra-rest-0", "dra-rest-1"), "dra-rest", "dra-rest-system", "dra.rest/gpumem"
CARD_MIB = 14000
WATCH, ADMITTED = "dra-rest-capacity-watch", "gpumem-tenant-admitted"
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: {NUMBER}
namespace: {SYSTEM}
label_prefix: dra.rest
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
runtime_class: {{name: dra-rest}}
device_plugin: {{managed_by: gpu-operator}}
admission: {{engine: policy}}
nodes:
  - name: t4
    selector: {{rest-test: "true"}}
    min_nodes: 2
    gpus: [{{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: 1536}}
coordinator:
  redis: {{url: "redis://redis.rest:6379/0"}}
  demand_gates:
    - name: gated
      tenant: gated
      dry_run: false
      windows: [{{from: "00:00", to: "24:00", time_zone: Europe/Berlin}}]
  engines:
    - {{tenant: gated, exporter_url: "http://192.168.1.20:9836/metrics"}}
tenants:
  - name: every
    namespace: {NAMESPACE}
    workload: {{kind: DaemonSet, name: every, container: main}}
    node: t4
    apply: create
    budget_mib: 4000
    class: realtime
    pod: {{containers: [{{name: main, image: "registry.example.com/every:1"}}]}}
  - name: gated
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: gated, container: main}}
    node: t4
    apply: patch
    budget_mib: 3000
    elastic: true
    class: batch
    strategy: {{type: Recreate}}
  - name: admitted
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: admitted, container: main}}
    node: t4
    apply: admission
    pod_labels: {{app: admitted}}
    budget_mib: 2500
    class: realtime
    strategy: {{type: Recreate}}
"""


@pytest.fixture(scope="module")
def estate() -> Estate:
    return parse_estate(ESTATE, "estate.yaml")[0]


@pytest.fixture
def estate_file(tmp_path: Path) -> Path:
    path = tmp_path / "gpumem.yaml"
    path.write_text(ESTATE)
    return path


@pytest.fixture(scope="module")
def cluster(lab: Lab, estate: Estate) -> Iterator[KubernetesCluster]:
    """The estate as it runs by the number: a pod of the DaemonSet on each node, and one pod of each other tenant."""
    for node in NODES:
        lab.node_add(LabNode(node, {"rest-test": "true"}, {"nvidia.com/gpu": 8}, "bare"))
    cluster = connect(lab.kubeconfig)
    on_nodes = {"nodeSelector": {"rest-test": "true"}}
    ground_by_number(cluster, estate, NODES[0], CARD_MIB, owned_deployment(NAMESPACE, "gated", "main", on_nodes))
    amounts = {"capacity": {NUMBER: str(CARD_MIB)}, "allocatable": {NUMBER: str(CARD_MIB)}}
    second = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODES[1]}, "status": amounts}
    cluster.apply(second, field_manager="gpumem-capacity", subresource="status", force=True)
    for item in render(estate).objects:
        # The other policies are for every pod of the cluster, and other tests are on it.
        if item.component == "tenants" or item.manifest["metadata"]["name"] == ADMITTED:
            cluster.apply(item.manifest, field_manager="gpumem-terraform")
    for node in NODES:
        publish(cluster, node, [CARD_MIB], ["Tesla T4"])
    # As its owner has it, who knows of no budget; made when its policy holds.
    admitted = owned_deployment(NAMESPACE, "admitted", "main", on_nodes)
    wait_for(partial(gets_the_number, cluster, admitted["spec"]["template"]))
    cluster.apply(admitted, field_manager="owner")
    yield cluster
    for kind in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"):
        lab.api().delete(f"/apis/admissionregistration.k8s.io/v1/{kind}/{ADMITTED}")
    remove_ground(lab, estate, NODES[0], NAMESPACE)
    lab.node_remove(NODES[1])


def gets_the_number(cluster: KubernetesCluster, template: dict[str, Any]) -> bool:
    metadata = {"name": "probe", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return NUMBER in json.dumps(cluster.create(pod, field_manager="test", dry_run=True)["spec"])


def migrate(lab: Lab, estate_file: Path, to: str, *more: str, wait: str = "60") -> int:
    where = ["-f", str(estate_file), "--kubeconfig", str(lab.kubeconfig)]
    return run(["migrate", "--to", to, *where, "--wait", wait, "--execute", *more])


def numbers(cluster: KubernetesCluster) -> list[str | None]:
    found = [cluster.get(ObjectRef("v1", "Node", node)) or {} for node in NODES]
    return [node["status"]["capacity"].get(NUMBER) for node in found]


def running(cluster: KubernetesCluster) -> list[str]:
    """Workloads of the pods that run, one for each pod."""
    found = phases(cluster, NAMESPACE)
    return sorted(pod.split("-")[0] for pod, phase in found.items() if phase == "Running")


def by_claim(cluster: KubernetesCluster) -> list[str]:
    return sorted(pod.split("-")[0] for pod in cards_of(cluster, NAMESPACE))


@contextmanager
def old_watch(lab: Lab, cluster: KubernetesCluster, estate: Estate, tmp_path: Path) -> Iterator[None]:
    """The real watch as a process with its account's rights, which ends 3 s after its Deployment."""
    settings = tmp_path / "capacity.json"
    settings.write_text(capacity_settings(estate).to_json())
    account = lab.service_account_kubeconfig(SYSTEM, names.CAPACITY_SERVICE_ACCOUNT)
    command = [str(Path(sys.executable).parent / "gpumem"), "capacity", "watch", "--settings", str(settings)]
    command += ["--metrics-address", "", "--namespace", SYSTEM, "--kubeconfig", str(account)]
    lab.spawn(WATCH, command)
    lease = ObjectRef("coordination.k8s.io/v1", "Lease", names.CAPACITY_LEASE, SYSTEM)
    wait_for(lambda: bool((cluster.get(lease) or {"spec": {}})["spec"].get("holderIdentity")))
    pods = f"/api/v1/namespaces/{SYSTEM}/pods"
    container = {"name": "capacity", "image": "registry.example.com/gpumem:0.1.0"}
    # The process's pod, which no node takes: it ends when the process has ended, and not sooner.
    spec = {"serviceAccountName": names.CAPACITY_SERVICE_ACCOUNT, "schedulerName": "none", "containers": [container]}
    lab.api().post(pods, {"metadata": {"name": "old-watch"}, "spec": spec})
    deployment = ObjectRef("apps/v1", "Deployment", "gpumem-capacity-watch", SYSTEM)

    def end_later() -> None:
        wait_for(lambda: cluster.get(deployment) is None)
        time.sleep(3)
        lab.stop(WATCH)
        lab.api().delete(f"{pods}/old-watch")

    thread = threading.Thread(target=end_later)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        lab.stop(WATCH)


def test_all_move_although_the_old_watch_lives_on(
    lab: Lab,
    cluster: KubernetesCluster,
    estate: Estate,
    estate_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A DaemonSet on both nodes, one behind a gate, one at admission; the number does not come back."""
    wait_for(lambda: running(cluster) == ["admitted", "every", "every", "gated"])
    assert by_claim(cluster) == []
    with old_watch(lab, cluster, estate, tmp_path), Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "dra") == 0
    said = capsys.readouterr().out
    assert numbers(cluster) == [None, None]
    assert f"waiting: pod {SYSTEM}/old-watch" in said
    assert said.count("number taken off") == 2, "once a node: nobody wrote it again"
    assert "admitted (2500 MiB): 1 pod stops" in said
    assert "t4: every tenant has its budget by claim\n" in said
    wait_for(lambda: running(cluster) == by_claim(cluster) == ["admitted", "every", "every"])
    assert "gated: given back to its gate" in said.replace("tenant gated: Deployment dra-rest/", "")
    assert watcher.highest_mib <= 2 * CARD_MIB
    events = lab.api().get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    moved = [one["note"] if "note" in one else one["message"] for one in events if one["reason"] == "GpumemBudgetMoved"]
    assert sum("a DaemonSet cannot be scaled" in text for text in moved) == 2


def test_back_is_refused_while_a_stranger_has_a_claim_and_then_moves_all(
    lab: Lab, cluster: KubernetesCluster, estate_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate(lab, estate_file, "dra") == 0
    api, pods = lab.api(), f"/api/v1/namespaces/{SYSTEM}/pods"
    wait_for(lambda: by_claim(cluster) == ["admitted", "every", "every"])
    capsys.readouterr()
    exactly = {"deviceClassName": "gpumem", "capacity": {"requests": {"memory": "5000Mi"}}}
    requests = [{"name": "mine", "exactly": exactly}]
    claim = {"metadata": {"name": "mine"}, "spec": {"devices": {"requests": requests}}}
    api.post(f"/apis/resource.k8s.io/v1/namespaces/{SYSTEM}/resourceclaims", claim)
    use = {"name": "main", "image": "registry.example.com/x:1", "resources": {"claims": [{"name": "own"}]}}
    spec = {"containers": [use], "resourceClaims": [{"name": "own", "resourceClaimName": "mine"}]}
    api.post(pods, {"metadata": {"name": "guest"}, "spec": spec})
    wait_for(lambda: phases(cluster, SYSTEM)["guest"] == "Running")

    where = ["-f", str(estate_file), "--kubeconfig", str(lab.kubeconfig)]
    assert run(["migrate", "--to", "extendedResource", *where]) == 1, "the plan says so, too"
    assert f"{SYSTEM}/mine (5000 MiB of dra-rest-" in capsys.readouterr().err
    assert migrate(lab, estate_file, "extendedResource", wait="2") == 1
    refused = capsys.readouterr()
    assert f"{SYSTEM}/mine (5000 MiB of dra-rest-" in refused.err
    assert "pods guest" in refused.err
    assert "released" not in refused.out, "nobody was stopped for it"
    assert numbers(cluster) == [None, None]
    assert running(cluster) == by_claim(cluster) == ["admitted", "every", "every"]

    api.delete(f"{pods}/guest", {"gracePeriodSeconds": 0})
    api.delete(f"/apis/resource.k8s.io/v1/namespaces/{SYSTEM}/resourceclaims/mine")
    with Watcher(lab, NAMESPACE, NUMBER) as watcher:
        assert migrate(lab, estate_file, "extendedResource") == 0
        wait_for(lambda: running(cluster) == ["admitted", "every", "every"])
    assert watcher.highest_mib <= 2 * CARD_MIB
    assert by_claim(cluster) == []
    assert numbers(cluster) == ["14k", "14k"]


def test_a_strangers_hold_is_named_until_a_further_run_drops_it(
    lab: Lab, cluster: KubernetesCluster, estate_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api, pods = lab.api(), f"/api/v1/namespaces/{SYSTEM}/pods"
    holds = f"/apis/resource.k8s.io/v1/namespaces/{SYSTEM}/resourceclaims"
    container = {"name": "main", "image": "registry.example.com/x:1", "resources": {"limits": {NUMBER: "100"}}}
    spec: dict[str, Any] = {"nodeSelector": {"rest-test": "true"}, "containers": [container]}
    api.post(pods, {"metadata": {"name": "stranger"}, "spec": spec})
    wait_for(lambda: phases(cluster, SYSTEM)["stranger"] == "Running")
    capsys.readouterr()
    assert migrate(lab, estate_file, "dra") == 0
    (hold,) = [one["metadata"]["name"] for one in api.get(holds)["items"]]
    said = capsys.readouterr().out
    assert f"no tenant's: {SYSTEM}/stranger (100 MiB)" in said
    assert f"holds ({hold}) keep that memory from claims, also when they have ended: run gpumem migrate" in said
    api.delete(f"{pods}/stranger", {"gracePeriodSeconds": 0})
    wait_for(lambda: "stranger" not in phases(cluster, SYSTEM))
    assert len(api.get(holds)["items"]) == 1, "nobody else drops it"
    assert migrate(lab, estate_file, "dra") == 0
    assert api.get(holds)["items"] == [], json.dumps(api.get(holds)["items"])
