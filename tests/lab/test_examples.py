"""Every shipped estate, applied whole on a lab of its own: in order, with the steps that Terraform would run.

Machines are bare nodes, so that pods run is pod life's word (a stand-in); that they were let in, where
they were placed and why one waits is the API server's and the scheduler's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.apps.cli.__main__ import run
from helpers.domain.errors import ClusterError, ExitCode
from helpers.domain.estate.model import Estate
from helpers.domain.names import ENV_STEP
from helpers.domain.quantity import canonical_count
from helpers.domain.report import TenantState
from helpers.ports.cluster import ObjectRef
from helpers.rendering.objects import RenderedObject, Step
from helpers.rendering.render import render
from helpers.services.capacity_observation import pod_budget_mib
from helpers.services.live import tenant_pods, tenant_states
from lab import cluster as labs
from lab.cluster import Lab, LabNode
from lab.crds import NoCrds, apply_crds, find_crds
from lab.estate_nodes import node_of_kind, nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.waiting import wait_for
from tests.synth.estates import PROJECT, SHIPPED, shipped

pytestmark = pytest.mark.lab

WORKLOADS = PROJECT / "estates/workloads"
# What somebody else's device plugin would offer on a machine.
BESIDE_THE_CARDS = {"talos-2x3090": {"squat.ai/coral": 1}}


@dataclass
class Applied:
    """An estate on its lab, settled."""

    name: str
    estate: Estate
    lab: Lab
    cluster: KubernetesCluster

    def states(self) -> dict[str, TenantState]:
        return tenant_states(self.cluster, self.estate)

    def owners_documents(self) -> list[dict[str, Any]]:
        file = WORKLOADS / f"{self.name}.yaml"
        return list(yaml.safe_load_all(file.read_text())) if file.exists() else []


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.stem)
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    path: Path = request.param
    estate, root = shipped(path), tmp_path_factory.mktemp(path.stem)
    try:
        lab = labs.up("example", machines(path.stem, estate), root)
        one = Applied(path.stem, estate, lab, connect(lab.kubeconfig))
        prepare(one)
        with pytest.MonkeyPatch.context() as environment:
            for item in render(estate).ordered():
                apply(one, item, environment)
        wait_for(lambda: settled(one), instead=one.states)
        yield one
    finally:
        labs.down("example", root)


def machines(name: str, estate: Estate) -> list[LabNode]:
    """What is always there, and one machine of each elastic kind."""
    always = [replace(node, kind="bare") for node in nodes_of_estate(estate)]
    elastic = [node_of_kind(estate, node.name, f"{node.name}-0") for node in estate.nodes if node.min_nodes == 0]
    beside = BESIDE_THE_CARDS.get(name, {})
    found = [*always, *(replace(node, kind="bare") for node in elastic)]
    return [replace(node, extended_resources={**node.extended_resources, **beside}) for node in found]


def prepare(one: Applied) -> None:
    """The engines' kinds, and what the owners of foreign workloads have applied before."""
    wanted = ["prometheus-operator"] if one.estate.monitoring.prometheus_operator else []
    wanted += ["karpenter", "karpenter-aws"] if one.estate.manager is not None else []
    for name in wanted:
        found = find_crds(name)
        if isinstance(found, NoCrds):
            pytest.skip(f"CRDs of {name} cannot be had: {found.reason}")
        apply_crds(one.lab.api(), found)
    for document in one.owners_documents():
        owner_applies(one, document)
    create_foreign_workloads(one.lab.api(), one.estate)


def owner_applies(one: Applied, document: dict[str, Any]) -> None:
    namespace = document["metadata"]["namespace"]
    one.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, field_manager="owner")
    if document["kind"] == "PersistentVolumeClaim":
        one.cluster.apply(volume_for(document), field_manager="owner")
    if document["kind"] != "Pod":  # admission looks at a pod when it is created, so it comes after the estate
        one.cluster.apply(document, field_manager="owner")


def volume_for(claim: dict[str, Any]) -> dict[str, Any]:
    """What a storage class would provide."""
    size = claim["spec"]["resources"]["requests"]["storage"]
    spec = {"capacity": {"storage": size}, "accessModes": claim["spec"]["accessModes"], "hostPath": {"path": "/models"}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "models"}, "spec": spec}


def apply(one: Applied, item: RenderedObject | Step, environment: pytest.MonkeyPatch) -> None:
    """As Terraform does: an object by server-side apply, a step by the command with its triggers."""
    if isinstance(item, RenderedObject):
        one.cluster.apply(item.manifest, field_manager="terraform", force=item.kind == "Namespace")
    elif item.on == "create":
        environment.setenv(ENV_STEP, json.dumps(dict(item.triggers)))
        done = run([*item.arguments, "--step", "--kubeconfig", str(one.lab.kubeconfig)])
        assert done == ExitCode.OK, item.address


def settled(one: Applied) -> bool:
    states = one.states()
    return not rolling(one) and all(
        states[tenant.name].running_count >= one.estate.pods_count(tenant)
        or (tenant.elastic and states[tenant.name].reason != "")
        for tenant in one.estate.tenants
    )


def rolling(one: Applied) -> bool:
    """Whether a pod of before its budget is still there: its successor has not come, or comes just now."""
    found = tenant_pods(one.cluster, one.estate)
    return any(
        pod_budget_mib(pod, one.estate.resource) != tenant.budget_mib
        for tenant in one.estate.tenants
        if tenant.apply != "admission"
        for pod in found[tenant.name]
    )


def test_always_on_tenants_run_and_who_waits_is_elastic_and_says_why(applied: Applied) -> None:
    waiting = {name: state.reason for name, state in applied.states().items() if state.pending_count}
    for name, reason in waiting.items():
        tenant = applied.estate.tenant(name)
        assert tenant is not None
        assert tenant.elastic, name
        assert "Insufficient" in reason, name
    # Beside 6000 MiB of always-on tenants the 3080 Ti holds vLLM or Ollama; the other waits.
    assert (len({"vllm", "ollama"} & set(waiting)) == 1) == (applied.name == "rtx3080ti")


def test_an_overflow_waits_with_the_schedulers_reason_and_disturbs_nobody(applied: Applied) -> None:
    estate, node = applied.estate, applied.estate.nodes[0]
    before = pods(applied)
    states = applied.states()
    held_mib = sum(t.budget_mib * states[t.name].running_count for t in estate.tenants if t.node == node.name)
    overflow = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "overflow", "namespace": "default"},
        "spec": {
            "nodeSelector": node.node_selector(),
            "tolerations": [dict(item) for item in node.tolerations],
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example.com/overflow:1.0.0",
                    "resources": {"limits": {estate.resource: canonical_count(node.advertised_mib - held_mib + 1)}},
                }
            ],
        },
    }
    applied.cluster.create(overflow, field_manager="test")
    ref = ObjectRef("v1", "Pod", "overflow", "default")
    wait_for(lambda: f"Insufficient {estate.resource}" in json.dumps((applied.cluster.get(ref) or {}).get("status")))
    assert pods(applied) == before
    found = applied.cluster.get(ref)
    assert found is not None
    applied.cluster.delete(ref, uid=found["metadata"]["uid"])


def pods(one: Applied) -> set[tuple[str, str]]:
    """Namespace and uid of every tenant's pod that runs."""
    found = [
        pod
        for namespace in {tenant.namespace for tenant in one.estate.tenants}
        for pod in one.cluster.list(ObjectRef("v1", "Pod", namespace=namespace))
    ]
    return {
        (pod["metadata"]["namespace"], pod["metadata"]["uid"])
        for pod in found
        if pod.get("status", {}).get("phase") == "Running"
    }


def test_an_owners_file_holds_every_foreign_workload_and_lands_on_the_machines(applied: Applied) -> None:
    documents = applied.owners_documents()
    if not documents:
        assert applied.name not in ("rtx2060super", "rtx3080ti", "talos-2x3090")
        return
    theirs = {(d["metadata"]["namespace"], d["kind"], d["metadata"]["name"]) for d in documents}
    foreign = {tenant.key for tenant in applied.estate.tenants if tenant.apply != "create"}
    assert foreign <= theirs
    claims = {name for _, kind, name in theirs if kind == "PersistentVolumeClaim"}
    assert claims_of(applied.estate) == claims
    selectors = [node.node_selector() for node in applied.estate.nodes]
    for document in documents:
        spec = document["spec"].get("template", document).get("spec")
        if document["kind"] != "PersistentVolumeClaim":
            assert spec["nodeSelector"] in selectors, document["metadata"]["name"]


def claims_of(estate: Estate) -> set[str]:
    """The claims that rendered pods name, and that somebody has to make."""
    volumes = [volume for tenant in estate.tenants for volume in (tenant.pod or {}).get("volumes", [])]
    return {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}


def test_a_pod_with_the_annotation_gets_its_devices_from_admission(applied: Applied) -> None:
    for document in applied.owners_documents():
        if document["kind"] == "Pod":
            # The first answers may come from before the policy is in force.
            wait_for(lambda pod=document: devices(stored(applied, pod)))  # type: ignore[misc]
            created = stored(applied, document)
            assert [volume["hostPath"]["path"] for volume in devices(created)] == ["/dev/bus/usb"]
            assert "runtimeClassName" not in created["spec"]  # it uses no card
            applied.cluster.create(document, field_manager="owner")
            wait_for(lambda pod=document: running(applied, pod))  # type: ignore[misc]


def stored(one: Applied, document: dict[str, Any]) -> dict[str, Any]:
    """As the API server would store it."""
    return one.cluster.create(document, field_manager="owner", dry_run=True)


def running(one: Applied, pod: dict[str, Any]) -> bool:
    found = one.cluster.get(ObjectRef("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"]))
    return found is not None and found["status"].get("phase") == "Running"


def devices(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [volume for volume in pod["spec"].get("volumes", []) if "hostPath" in volume]


def test_a_gpu_pod_without_a_budget_is_refused_where_the_estate_says_so_and_only_there(applied: Applied) -> None:
    share, admission = applied.estate.nodes[0].share_resource(), applied.estate.admission
    container = {"name": "main", "image": "registry.example.com/x:1.0.0", "resources": {"limits": {share: "1"}}}
    meta = {"name": "no-budget", "namespace": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
    if admission is not None and admission.required_budget == "deny":
        with pytest.raises(ClusterError, match="budget"):
            applied.cluster.create(pod, field_manager="test", dry_run=True)
    else:
        applied.cluster.create(pod, field_manager="test", dry_run=True)


def test_where_a_cluster_enforces_pod_security_the_exporters_get_into_the_estates_namespace(applied: Applied) -> None:
    """As Talos does, at the level baseline, wherever a namespace does not say otherwise."""
    if applied.estate.talos is None:
        return
    address = f"exporter-node-{applied.estate.nodes[0].name}"
    (exporter,) = [o.manifest for o in render(applied.estate).objects if o.address == address]
    strict = {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
    applied.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": strict}, field_manager="test")
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": exporter["spec"]["template"]["spec"]}
    here = {"name": "probe", "namespace": applied.estate.namespace}
    applied.cluster.create(pod | {"metadata": here}, field_manager="test", dry_run=True)
    meta = {"name": "gpumem-exporter", "namespace": "strict"}
    applied.cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}, field_manager="test")
    with pytest.raises(ClusterError, match="PodSecurity"):
        applied.cluster.create(pod | {"metadata": here | {"namespace": "strict"}}, field_manager="test", dry_run=True)


@pytest.mark.parametrize("applied", [PROJECT / "estates/rtx3080ti.yaml"], ids=["rtx3080ti"], indirect=True)
def test_two_that_want_one_card_change_places_as_the_guide_says(
    applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    guide = (PROJECT / "docs/guides/estates.md").read_text()
    release, restore = re.findall(r"^gpumem ((?:release|restore) .+)$", guide, re.MULTILINE)
    kubeconfig = ["--kubeconfig", str(applied.lab.kubeconfig)]
    assert run([*release.split(), *kubeconfig]) == ExitCode.OK
    wait_for(lambda: applied.states()["ollama"].running_count == 1)
    assert run([*restore.split(), *kubeconfig]) == ExitCode.OK
    wait_for(lambda: "Insufficient" in applied.states()["vllm"].reason)
    assert applied.states()["ollama"].running_count == 1


@pytest.mark.parametrize("applied", [PROJECT / "estates/rtx3080ti.yaml"], ids=["rtx3080ti"], indirect=True)
def test_elastic_tenants_that_came_first_give_the_always_on_ones_their_place(applied: Applied) -> None:
    always_on = ["tts", "whisper"]
    told = ["-f", str(PROJECT / "estates/rtx3080ti.yaml"), "--kubeconfig", str(applied.lab.kubeconfig)]
    for name in always_on:
        assert run(["release", name, *told]) == ExitCode.OK
    wait_for(lambda: running_counts(applied, ["vllm", "ollama"]) == 2, instead=applied.states)
    for name in always_on:
        assert run(["restore", name, *told]) == ExitCode.OK
    wait_for(lambda: running_counts(applied, always_on) == 2, instead=applied.states)
    wait_for(lambda: running_counts(applied, ["vllm", "ollama"]) == 1, instead=applied.states)


def running_counts(one: Applied, names: list[str]) -> int:
    states = one.states()
    return sum(states[name].running_count for name in names)
