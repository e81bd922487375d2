"""An estate whose budgets are claims, delivered by Git: each Job with the rights of its account, and doctor on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.adapters.certificates import X509Certificates
from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.capacity import capacity_settings
from helpers.domain.doctor.finding import Finding
from helpers.domain.doctor.rights import DOCTOR_ROLE, doctor_rights
from helpers.domain.errors import Forbidden
from helpers.domain.estate.model import Estate
from helpers.domain.names import FIELD_MANAGER_CAPACITY
from helpers.domain.pod_phase import ENDED
from helpers.domain.step_rights import gate_rights
from helpers.domain.watchdog.rights import WATCHDOG_LEASE
from helpers.ports.cluster import ObjectRef
from helpers.rendering.doctor_role import role_text
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from helpers.services.claims import SLICES
from helpers.services.doctor import Declared, examine
from helpers.services.gate import verify
from lab import cluster
from lab.cluster import Lab
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.rights import grant_rights
from lab.waiting import wait_for
from tests.fixtures.delivered_tree import RunJob, apply_tree, claims_text
from tests.lab.dra_scene import cards_of, publish
from tests.synth.estates import on_claims

pytestmark = pytest.mark.lab

NODE, ESTATE_NAMESPACE = "gpu-worker", "gpu-operator"
CARDS_MIB = (24000, 24000)
RESOURCES = "/apis/resource.k8s.io/v1"
GATE = [f"{verb} {right.resource}" for right in gate_rights(on_claims()) for verb in right.verbs]
OF_CLAIMS = [
    f"{verb} {right.resource}"
    for right in doctor_rights(on_claims())
    for verb in right.verbs
    if right.api_group == "resource.k8s.io"
]


@dataclass(frozen=True)
class Scene:
    """The cluster, and how the Jobs ended while no card was offered (`closed`) and when they were."""

    estate: Estate
    lab: Lab
    cluster: KubernetesCluster
    closed: list[RunJob]
    jobs: list[RunJob]

    def findings(self, reader: KubernetesCluster | None = None) -> tuple[Finding, ...]:
        declared = Declared(self.estate, "gpumem.yaml", tuple(item.manifest for item in render(self.estate).objects))
        return examine(reader or self.cluster, declared, SystemClock(), X509Certificates())

    def ids(self) -> list[str]:
        return [one.id for one in self.findings()]

    def settled(self) -> bool:
        """Whether every tenant has its card, and every pod runs or has ended."""
        pods = self.cluster.list(ObjectRef("v1", "Pod"))
        return len(cards_of(self.cluster, "ai")) == len(self.estate.tenants) and all(map(_well, pods))


def _well(pod: dict[str, Any]) -> bool:
    status = pod.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    ended = status.get("phase") in ENDED
    return ended or ("deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True")


def lead(found: KubernetesCluster) -> None:
    """Plays the watchdog's leader, whose container does nothing on the lab."""
    spec = {"holderIdentity": "pod-0", "leaseDurationSeconds": 3600,
            "renewTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"}  # fmt: skip
    metadata = {"name": WATCHDOG_LEASE, "namespace": ESTATE_NAMESPACE}
    manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    found.apply(manifest, field_manager="lab", force=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root, estate = tmp_path_factory.mktemp("labs"), parse_estate(claims_text("argocd"), "gpumem.yaml")[0]
    try:
        lab = cluster.up("claims", nodes_of_estate(estate, "bare"), root, print)
        found = connect(lab.kubeconfig)
        create_foreign_workloads(lab.api(), estate)
        closed = apply_tree(estate, tmp_path_factory.mktemp("tree"), lab, "argocd-controller")
        publish(found, NODE, CARDS_MIB)
        jobs = apply_tree(estate, tmp_path_factory.mktemp("tree"), lab, "argocd-controller")
        one = Scene(estate, lab, found, closed, jobs)
        if not any(job.exit_code for job in jobs):  # otherwise nobody comes, and a test says why
            lead(found)
            wait_for(one.settled)
        yield one
    finally:
        cluster.down("claims", root)


def test_the_gate_is_closed_for_want_of_cards_and_of_nothing_else(scene: Scene) -> None:
    gate = scene.closed[-1]
    assert (gate.name, gate.exit_code) == ("gpumem-gate", 1)
    assert "gpu.gpumem.io offers no card, wanted cards of 24000 + 24000 MiB or more" in gate.text


def test_every_job_ends_well_with_the_rights_of_its_account(scene: Scene) -> None:
    assert [job for job in scene.jobs if job.exit_code] == []
    assert [job.name for job in scene.jobs[:2]] == ["gpumem-capacity-assert", "gpumem-gate"]
    # A tenant's own steps have the digest of what they are told in their names.
    assert sorted(job.name.rpartition("-")[0] for job in scene.jobs[2:]) == [
        "gpumem-budget-comfyui",
        *(f"gpumem-replicas-{name}" for name in ("high-priority-ai", "llm-apps", "ollama")),
    ]


@pytest.mark.parametrize("verb", GATE)
def test_each_right_of_the_gate_is_needed(verb: str, scene: Scene) -> None:
    account = f"gate-{verb.replace(' ', '-')}"
    rights = gate_rights(scene.estate)
    kubeconfig = grant_rights(scene.lab, ESTATE_NAMESPACE, account, rights, [("cluster", "")], without=verb)
    with pytest.raises(Forbidden, match=verb.split()[1]):
        verify(connect(kubeconfig), capacity_settings(scene.estate), SystemClock(), 0)


def test_doctor_finds_nothing_with_the_rights_of_its_printed_role(scene: Scene) -> None:
    for manifest in yaml.safe_load_all(role_text(scene.estate)):
        scene.cluster.apply(manifest, field_manager="test", force=True)
    account = scene.lab.service_account_kubeconfig(ESTATE_NAMESPACE, DOCTOR_ROLE)
    assert scene.findings(connect(account)) == ()


@pytest.mark.parametrize("verb", OF_CLAIMS)
def test_each_of_doctors_rights_on_claims_is_needed(verb: str, scene: Scene) -> None:
    account = f"doctor-{verb.replace(' ', '-')}"
    places = [("cluster", ""), ("namespace", ESTATE_NAMESPACE)]
    rights = doctor_rights(scene.estate)
    kubeconfig = grant_rights(scene.lab, ESTATE_NAMESPACE, account, rights, places, without=verb)  # type: ignore[arg-type]
    with pytest.raises(Forbidden, match=verb.split()[1]):
        scene.findings(connect(kubeconfig))


def test_a_deleted_slice_is_found_and_gone_when_the_agent_publishes_again(scene: Scene) -> None:
    (item,) = scene.cluster.list(SLICES)
    scene.lab.api().delete(f"{RESOURCES}/resourceslices/{item['metadata']['name']}")
    (found,) = scene.findings()
    assert (found.id, found.where) == ("cards-missing", f"Node {NODE}")
    assert found.evidence == "gpu.gpumem.io offers no card, wanted cards of 24000 + 24000 MiB or more"
    assert found.command == f"kubectl -n {ESTATE_NAMESPACE} rollout restart daemonset/gpumem-dra-agent-gpu-worker"
    publish(scene.cluster, NODE, CARDS_MIB[:1])
    assert scene.ids() == ["cards-differ"]
    publish(scene.cluster, NODE, CARDS_MIB)
    assert scene.ids() == []


def _no_class(scene: Scene) -> None:
    scene.lab.api().delete(f"{RESOURCES}/deviceclasses/gpumem")


def _no_template(scene: Scene) -> None:
    scene.lab.api().delete(f"{RESOURCES}/namespaces/ai/resourceclaimtemplates/gpumem-ollama-16000")


@pytest.mark.parametrize(
    ("plant", "found"), [(_no_class, "device-class-absent"), (_no_template, "claim-template-absent")]
)
def test_what_claims_are_made_from_is_missed(plant: Callable[[Scene], None], found: str, scene: Scene) -> None:
    plant(scene)
    try:
        assert scene.ids() == [found]
    finally:
        for item in render(scene.estate).objects:
            if item.kind in ("DeviceClass", "ResourceClaimTemplate"):
                scene.cluster.apply(item.manifest, field_manager="argocd-controller", force=True)
    assert scene.ids() == []


@pytest.mark.parametrize("owned", [True, False])
def test_a_number_beside_claims_is_found_and_taken_off_by_what_is_printed(
    owned: bool, scene: Scene, tmp_path: Path
) -> None:
    amounts = {scene.estate.resource: "48k"}
    shown = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    shown |= {"status": {"capacity": amounts, "allocatable": amounts}}
    manager = FIELD_MANAGER_CAPACITY if owned else "somebody"
    scene.cluster.apply(shown, field_manager=manager, subresource="status", force=True)
    (found,) = scene.findings()
    assert found.id == "capacity-beside-claims"
    assert found.command.split()[0] == ("gpumem" if owned else "kubectl")
    (tmp_path / "gpumem.yaml").write_text(claims_text("argocd"))
    programs = [Path(sys.executable).parent, scene.lab.bin("kubectl").parent]
    environment = {**os.environ, "KUBECONFIG": str(scene.lab.kubeconfig), "KUBECACHEDIR": str(tmp_path / "cache")}
    environment["PATH"] = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    command = ["bash", "-euc", found.command]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
    assert scene.ids() == []
