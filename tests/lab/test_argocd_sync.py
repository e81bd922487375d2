"""Argo CD's own sync engine on the rendered tree: the order, a closed gate, and a tenant that stays Pending.

The engine is the real one (`lab/argocd.py`). Job's pods are held by a scheduling gate until this test has run
their command, with the rights of their account; pod life then ends them with its exit code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.gitops import delivered_folders
from helpers.rendering.render import render
from helpers.rendering.write import write_tree
from lab import cluster
from lab.argocd import Sync, built_argocd_sync, sync_folder
from lab.cluster import Lab
from lab.demo import SIXTH_TENANT
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.waiting import wait_for
from tests.fixtures.delivered_tree import RunJob, run_job
from tests.terraform.conftest import estate_text

pytestmark = pytest.mark.lab

BOUND_SECONDS = 120.0
HOLD = "lab.gpumem.io/until-run"
BLOCK = "\ngitops: {engine: argocd, repo_url: 'https://git.example.com/a/gpus.git', path: gpu}\n"
NOWHERE = '      nodeSelector: {example.com/elsewhere: "true"}\n'
WORKLOADS = "/apis/apps/v1/namespaces"


@dataclass
class Containers:
    """Runs what Jobs' pods would run, one after the other, and remembers it."""

    lab: Lab
    namespace: str
    done: list[RunJob] = field(default_factory=list)
    looked: list[Any] = field(default_factory=list)
    look: Callable[[str], Any] = lambda _: None

    def step(self) -> None:
        """Run what is held now."""
        api = self.lab.api()
        for pod in api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]:
            if not pod["spec"].get("schedulingGates"):
                continue
            name = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
            self.looked.append((name, self.look(name)))
            self.done.append(run_job(self.lab, api.get(f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")))
            code = {"metadata": {"annotations": {"lab.gpumem.io/exit-code": str(self.done[-1].exit_code)}}}
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
            api.patch(path, code | {"spec": {"schedulingGates": None}})


@dataclass(frozen=True)
class Scene:
    """The example with a sixth tenant that never gets a place, its tree, and a cluster with nothing of it."""

    estate: Estate
    lab: Lab
    tree: Path
    program: Path

    def sync(self, wave: str, containers: Containers) -> Sync:
        """What an Application of that wave does, once."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(0.2):
                containers.step()

        runner = threading.Thread(target=run)
        runner.start()
        try:
            return sync_folder(self.program, self.lab.kubeconfig, self.tree / wave, BOUND_SECONDS)
        finally:
            stop.set()
            runner.join()

    def exists(self, path: str) -> bool:
        return self.lab.api().exists(path)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    program = built_argocd_sync()
    if program is None:
        pytest.skip("Argo CD's sync engine is not built: python -m lab.prepare builds it")
    text = estate_text(**{"timeout_seconds: 120": "timeout_seconds: 1"}) + SIXTH_TENANT + NOWHERE + BLOCK
    estate = parse_estate(text, "gpumem.yaml")[0]
    root, tree = tmp_path_factory.mktemp("labs"), tmp_path_factory.mktemp("tree")
    write_tree(render(estate), tree, delivered_folders(estate, render(estate)))
    for file in tree.rglob("*-job-*.yaml"):
        job = yaml.safe_load(file.read_text())
        job["spec"]["template"]["metadata"]["annotations"] = {"lab.gpumem.io/exit-after-seconds": "0"}
        job["spec"]["template"]["spec"]["schedulingGates"] = [{"name": HOLD}]
        file.write_text(yaml.safe_dump(job))
    try:
        lab = cluster.up("argocd", nodes_of_estate(estate, "bare"), root, print)
        create_foreign_workloads(lab.api(), estate)
        yield Scene(estate, lab, tree, program)
    finally:
        cluster.down("argocd", root)


def test_an_estate_comes_up_in_order_and_a_pending_tenant_holds_nothing_up(scene: Scene) -> None:
    api = scene.lab.api()
    api.post("/api/v1/namespaces", {"metadata": {"name": scene.estate.namespace}})

    # The consumers first, as when their Application is quicker: the gate is closed, and nothing behind it is touched.
    early = Containers(scene.lab, scene.estate.namespace)
    closed = scene.sync("1-consumers", early)
    (gate,) = [one for one in closed.objects if one.kind == "Job"]
    assert (closed.phase, gate.name, gate.hook_phase) == ("Failed", "gpumem-gate", "Failed"), closed
    assert [job.exit_code for job in early.done] == [1]
    assert "gate closed: node t4-node" in early.done[0].text
    assert not scene.exists("/apis/scheduling.k8s.io/v1/priorityclasses/gpu-realtime")
    assert not scene.exists("/api/v1/namespaces/portal")

    # The nodes' side. What goes on trying must not have read a number that the assert may refuse.
    config = f"/api/v1/namespaces/{scene.estate.namespace}/configmaps/gpumem-capacity"
    first = Containers(scene.lab, scene.estate.namespace, look=lambda _: scene.exists(config))
    nvidia = scene.sync("0-nvidia", first)
    assert nvidia.phase == "Succeeded", nvidia
    assert first.looked == [("gpumem-capacity-assert", False)]
    assert [job.exit_code for job in first.done] == [0], first.done
    assert scene.exists(config)
    (node,) = api.get("/api/v1/nodes")["items"]
    assert node["status"]["allocatable"][scene.estate.resource] == "14k"

    # The consumers again. The sync ends, though the sixth tenant never runs.
    tenant = f"{WORKLOADS}/portal/deployments/portal-stt"
    second = Containers(scene.lab, scene.estate.namespace, look=lambda _: scene.exists(tenant))
    consumers = scene.sync("1-consumers", second)
    assert consumers.phase == "Succeeded", consumers
    assert second.looked[0] == ("gpumem-gate", False)
    assert scene.exists(tenant)

    # The tenants' own steps are ordinary Jobs, and go on after the sync.
    def all_done() -> bool:
        second.step()
        return len(second.done) == 1 + len(scene.estate.tenants)

    wait_for(all_done)
    assert [job for job in second.done if job.exit_code] == []
    foreign = api.get(f"{WORKLOADS}/immich/deployments/immich-machine-learning")
    container = foreign["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"][scene.estate.resource] == "3k"
    wait_for(lambda: waiting_pods_count(scene, "whisper") == 1)
    wait_for(lambda: waiting_pods_count(scene, "portal") == 0)


def waiting_pods_count(scene: Scene, namespace: str) -> int:
    pods = scene.lab.api().get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    return sum(1 for pod in pods if pod["status"]["phase"] != "Running")
