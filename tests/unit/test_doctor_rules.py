"""Doctor's rules on facts that the lab does not make: what is no fault, and who is asked to give."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from helpers.domain.capacity import NodeFacts
from helpers.domain.doctor.commands import apply_objects
from helpers.domain.doctor.facts import DoctorFacts, NodeSeen, ObjectName, PodSeen, Taint
from helpers.domain.doctor.finding import Finding, Severity, in_order
from helpers.domain.doctor.nodes import plugin_config_selected, shares, taints
from helpers.domain.doctor.objects import first_difference, writers
from helpers.domain.doctor.pods import uncounted, waiting
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from tests.synth.estates import example

RESOURCE = "viktorbarzin.me/gpumem"
LABEL = "nvidia.com/device-plugin.config"
SHORT = f"0/1 nodes are available: 1 Insufficient {RESOURCE}."


def node(**more: Any) -> NodeSeen:
    labels = {"nvidia.com/gpu.present": "true"} | more.pop("labels", {})
    shown: dict[str, Any] = {
        "capacity_mib": 14000,
        "allocatable_mib": 14000,
        "owned": True,
        "shares": {"nvidia.com/gpu": 8},
    } | more
    return NodeSeen(NodeFacts("t4", labels, **shown), ready=True)


def pod(name: str, budget_mib: int, *, tenant: str = "", estate: Estate | None = None, **more: Any) -> PodSeen:
    found = (estate or example()).tenant(tenant)
    owner = (found.workload.kind, found.workload.name) if found else ("", "")
    namespace = found.namespace if found else "other"
    given: dict[str, Any] = {"node": "t4", "phase": "Running", "owner": owner, "budget_mib": budget_mib} | more
    return PodSeen(namespace=namespace, name=name, **given)


def facts(*pods: PodSeen, nodes: tuple[NodeSeen, ...] = (node(),), estate: Estate | None = None) -> DoctorFacts:
    return DoctorFacts(
        estate=estate or example(),
        estate_file="gpumem.yaml",
        now_at=datetime(2026, 11, 26, tzinfo=UTC),
        server_version="1.36",
        nodes=nodes,
        pods=pods,
        wanted={},
        objects={},
    )


def waits(tenant: str, estate: Estate | None = None) -> PodSeen:
    found = (estate or example()).tenant(tenant)
    assert found is not None
    return pod("new", found.budget_mib, tenant=tenant, estate=estate, node="", phase="Pending", unplaced=SHORT)


@pytest.mark.parametrize(
    ("labels", "offered", "found"),
    [
        ({LABEL: "t4-node"}, {"nvidia.com/gpu": 8}, 0),
        ({}, {"nvidia.com/gpu": 8}, 0),  # the operator's default, and it is ours
        ({}, {"nvidia.com/gpu": 1}, 1),
        ({}, {}, 1),
        ({LABEL: "other"}, {"nvidia.com/gpu": 8}, 1),
    ],
)
def test_a_node_without_the_label_is_well_where_the_default_gives_its_shares(
    labels: dict[str, str], offered: dict[str, int], found: int
) -> None:
    seen = facts(nodes=(node(labels=labels, shares=offered),))
    assert len(list(plugin_config_selected(seen))) == found


def test_a_node_that_offers_no_shares_at_all_is_not_the_plugins_fault() -> None:
    assert list(shares(facts(nodes=(node(shares={}),)))) == []


def test_kubernetess_own_pairs_of_taints_are_no_fault() -> None:
    pair = tuple(Taint("node.kubernetes.io/unreachable", "", effect) for effect in ("NoSchedule", "NoExecute"))
    assert list(taints(facts(nodes=(replace(node(), taints=pair),)))) == []


def test_the_strongest_of_three_effects_stays() -> None:
    three = tuple(Taint("a", "", effect) for effect in ("NoExecute", "PreferNoSchedule", "NoSchedule"))
    (found,) = taints(facts(nodes=(replace(node(), taints=three),)))
    assert found.command == "kubectl taint node t4 a:PreferNoSchedule- a:NoSchedule-"


def test_who_can_wait_is_asked_before_whom_a_person_waits_for() -> None:
    held = [pod("a", 3000, tenant="immich-ml"), pod("b", 5000, tenant="llama-swap"), pod("c", 2000, tenant="frigate")]
    held += [pod("d", 1800, tenant="immich-server"), pod("e", 1000, tenant="portal-stt")]
    (found,) = waiting(facts(*held, waits("portal-stt")))
    assert found.severity is Severity.ERROR
    assert found.command == "gpumem release immich-server -f gpumem.yaml"
    assert "held there: llama-swap" in found.evidence.replace("llama-cpp/b", "llama-swap")


def test_a_stranger_is_named_before_any_tenant() -> None:
    held = [pod("a", 3000, tenant="immich-ml"), pod("squatter", 10500)]
    (found,) = waiting(facts(*held, waits("frigate")))
    assert found.command == "kubectl -n other delete pod squatter"


@pytest.mark.parametrize(
    "held",
    [
        [pod("a", 9000, tenant="immich-ml")],  # there is room: something else keeps it
        [pod("a", 13000, tenant="immich-ml", terminating=True)],
        [pod("job", 13000, owner=("Job", "train"))],
        [pod("a", 13000, tenant="immich-ml", phase="Succeeded")],
    ],
)
def test_a_tenant_whose_memory_gets_free_is_no_fault(held: list[PodSeen]) -> None:
    assert list(waiting(facts(*held, waits("frigate")))) == []


def test_a_tenant_that_waits_for_a_missing_number_is_said_once_and_elsewhere() -> None:
    assert list(waiting(facts(waits("frigate"), nodes=(node(capacity_mib=None, allocatable_mib=None),)))) == []


def test_an_elastic_tenant_may_wait() -> None:
    estate = example()
    elastic = estate.tenants[2].model_copy(update={"elastic": True})
    estate = estate.model_copy(update={"tenants": (*estate.tenants[:2], elastic, *estate.tenants[3:])})
    held = pod("a", 13000, tenant="immich-ml", estate=estate)
    (found,) = waiting(facts(held, waits("frigate", estate), estate=estate))
    assert found.severity is Severity.INFO


@pytest.mark.parametrize("namespace", ["nvidia", "gpu-operator", "kube-system"])
def test_who_looks_after_the_cards_is_no_tenant(namespace: str) -> None:
    seen = PodSeen(namespace=namespace, name="plugin", node="t4", phase="Running", runtime_class="nvidia")
    assert list(uncounted(facts(seen))) == []


def test_a_declared_tenant_without_shares_may_use_the_runtime_class() -> None:
    assert list(uncounted(facts(pod("a", 2000, tenant="frigate", runtime_class="nvidia")))) == []


def test_more_than_is_rendered_is_no_difference() -> None:
    wanted = {"spec": {"a": 1, "b": [{"name": "x"}]}}
    assert first_difference(wanted, {"spec": {"a": 1, "b": [{"name": "x", "more": 2}], "c": 3}}, "") is None
    assert first_difference(wanted, {"spec": {"a": 1, "b": []}}, "o") == (
        "o.spec.b is []; the estate says [{'name': 'x'}]"
    )
    assert first_difference(wanted, {"spec": "no"}, "o") == (
        "o.spec is no; the estate says {'a': 1, 'b': [{'name': 'x'}]}"
    )


def test_writers_are_those_of_the_object_and_the_latest_comes_first() -> None:
    fields = [
        {"manager": "kubectl", "time": "2026-11-26T10:00:00Z"},
        {"manager": "helm", "time": "2026-11-26T11:00:00Z"},
        {"manager": "kubelet", "time": "2026-11-26T12:00:00Z", "subresource": "status"},
    ]
    assert writers({"metadata": {"managedFields": fields}}) == ["helm", "kubectl"]


def test_errors_come_first_and_nothing_twice() -> None:
    low = [Finding("b", Severity.WARNING, "w", "e", "f"), Finding("a", Severity.INFO, "w", "e", "f")]
    high = Finding("c", Severity.ERROR, "w", "e", "f")
    assert [found.id for found in in_order([*low, high, high])] == ["c", "b", "a"]
    assert str(ObjectName("Lease", "nvidia", "x")) == "Lease nvidia/x"


ASKED = {
    "argocd": "-n argocd annotate applications.argoproj.io -l app.kubernetes.io/managed-by=gpumem "
    "argocd.argoproj.io/refresh=hard --overwrite",
    "flux": "-n flux-system annotate kustomizations.kustomize.toolkit.fluxcd.io -l app.kubernetes.io/managed-by=gpumem "
    "reconcile.fluxcd.io/requestedAt=2026-11-26T00:00:00Z --overwrite",
}


@pytest.mark.parametrize("engine", ASKED)
def test_where_git_delivers_the_engine_is_asked_and_nothing_is_applied_past_it(engine: Any) -> None:
    """Applied by Terraform's field manager, a field would have a second owner and outlive its removal from Git."""
    gitops = GitOps(engine=engine, repo_url="https://git.example.com/a/gpus.git", path="gpu")
    delivered = facts(estate=example().model_copy(update={"gitops": gitops}))
    name = ObjectName("PriorityClass", "", "gpu-realtime")
    assert apply_objects(delivered, name) == f"kubectl {ASKED[engine]}"
    assert "--field-manager=gpumem-terraform" in apply_objects(facts(), name)
    assert delivered.estate.field_manager() == gitops.field_manager() != facts().estate.field_manager()
