"""Doctor's rules on nodes whose budgets are claims: each on facts of two cards, and on both backends together."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from helpers.domain.capacity import NodeFacts, capacity_settings
from helpers.domain.doctor.cards import budgets_mixed, number_beside_claims, offered
from helpers.domain.doctor.facts import DoctorFacts, NodeSeen, ObjectName, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.doctor.nodes import capacity, node_there, plugin_config_selected
from helpers.domain.doctor.objects import objects
from helpers.domain.doctor.pods import uncounted, waiting
from helpers.domain.doctor.rules import diagnose
from helpers.domain.doctor.workloads import workloads
from helpers.domain.dra.naming import DRIVER
from helpers.domain.dra.offers import HeldMemory, OfferedCard
from helpers.domain.estate.model import Estate
from helpers.rendering.render import render
from helpers.services.doctor_reading import asking_claims, node_seen, pod_seen
from tests.synth.estates import on_both_backends, on_claims

NODE, RESOURCE = "gpu-worker", "viktorbarzin.me/gpumem"
NO_CARD = "0/1 nodes are available: 1 cannot allocate all claims."
AGENT = ObjectName("DaemonSet", "gpu-operator", "gpumem-dra-agent-gpu-worker")


def node(name: str = NODE, **more: Any) -> NodeSeen:
    labels = {"kind": "old"} if name == "old" else {"node-type": "gpu-worker"}
    shown: dict[str, Any] = {"capacity_mib": None, "allocatable_mib": None, "owned": False} | more
    return NodeSeen(NodeFacts(name, labels, **shown), ready=True)


def card(index: int, mib: int = 24000, of: str = NODE, model: str = "NVIDIA GeForce RTX 3090") -> OfferedCard:
    return OfferedCard(of, (DRIVER, of, f"gpu-{index}"), mib, f"GPU-{of}-{index}", model)


CARDS = (card(0), card(1))


def held(pod: str, mib: int, on: int, of: str = NODE, **more: Any) -> HeldMemory:
    return HeldMemory("ai", f"{pod}-claim", (DRIVER, of, f"gpu-{on}"), mib, more.get("pods", (pod,)), {})


def pod(name: str, tenant: str = "", **more: Any) -> PodSeen:
    found = on_claims().tenant(tenant)
    owner = (found.workload.kind, found.workload.name) if found else ("", "")
    given: dict[str, Any] = {"node": NODE, "phase": "Running", "owner": owner, "claimed": True} | more
    return PodSeen(namespace="ai", name=name, **given)


def waits(tenant: str) -> PodSeen:
    return pod("new", tenant, node="", phase="Pending", unplaced=NO_CARD)


def facts(*pods: PodSeen, **more: Any) -> DoctorFacts:
    given: dict[str, Any] = {"estate": on_claims(), "nodes": (node(),), "cards": CARDS, "wanted": {}, "objects": {}}
    return DoctorFacts(
        estate_file="gpumem.yaml",
        now_at=datetime(2026, 11, 26, tzinfo=UTC),
        server_version="1.36",
        pods=pods,
        **given | more,
    )


def workload(
    tenant: str, template: str, *, owners: tuple[str, ...] = (), strategy: Any = None, limits: Any = None
) -> Any:
    found = on_claims().tenant(tenant)
    assert found is not None
    container: dict[str, Any] = {"name": found.workload.container, "resources": {"claims": [{"name": "gpumem"}]}}
    if limits:
        container["resources"]["limits"] = limits
    spec = {"containers": [container]}
    if template:
        spec["resourceClaims"] = [{"name": "gpumem", "resourceClaimTemplateName": template}]
    fields: dict[str, Any] = {"f:resourceClaims": {'k:{"name":"gpumem"}': {"f:resourceClaimTemplateName": {}}}}
    entry = {"fieldsV1": {"f:spec": {"f:template": {"f:spec": fields}}}}
    metadata = {"name": found.workload.name, "managedFields": [{"manager": one, **entry} for one in owners]}
    return {
        ObjectName("Deployment", "ai", found.workload.name): {
            "metadata": metadata,
            "spec": {"replicas": 1, "strategy": strategy, "template": {"spec": spec}},
        }
    }


def of_tenant(tenant: str, found: DoctorFacts) -> list[Finding]:
    return [one for one in workloads(found) if one.where == f"tenant {tenant}"]


@pytest.mark.parametrize("estate", [on_claims(), on_both_backends()], ids=["claims", "both"])
def test_every_rule_runs_on_nodes_of_claims(estate: Estate) -> None:
    old = node("old", capacity_mib=14000, allocatable_mib=14000, owned=True, shares={"nvidia.com/gpu": 8})
    found = diagnose(facts(estate=estate, nodes=(node(shares={"nvidia.com/gpu": 8}), old)))
    assert {one.id for one in found} == {"workload-absent"}, found


def test_a_kind_of_claims_has_its_nodes() -> None:
    assert list(node_there(facts())) == []
    (found,) = node_there(facts(nodes=()))
    assert found.id == "node-absent"


def test_no_number_is_wanted_where_budgets_are_claims_and_one_is_where_they_are_not() -> None:
    assert list(capacity(facts())) == []
    (found,) = capacity(facts(estate=on_both_backends(), nodes=(node(), node("old"))))
    assert (found.id, found.where) == ("capacity-missing", "Node old")


def test_a_number_that_is_still_shown_is_taken_off_by_whoever_wrote_it() -> None:
    ours = node(capacity_mib=48000, allocatable_mib=48000, owned=True)
    (found,) = number_beside_claims(facts(nodes=(ours,)))
    assert (found.id, found.severity) == ("capacity-beside-claims", Severity.ERROR)
    assert found.evidence.startswith(f"capacity {RESOURCE} is 48000 and allocatable {RESOURCE} is 48000; budgets are")
    assert found.command == "gpumem capacity assert -f gpumem.yaml"
    (found,) = number_beside_claims(facts(nodes=(node(capacity_mib=48000),)))
    assert found.command == (
        "kubectl patch node gpu-worker --type=json --subresource=status -p "
        '\'[{"op":"remove","path":"/status/capacity/viktorbarzin.me~1gpumem"}]\''
    )
    assert list(number_beside_claims(facts())) == []


@pytest.mark.parametrize(
    ("cards", "id_", "shown"),
    [
        ((), "cards-missing", "offers no card"),
        ((card(0),), "cards-differ", "offers cards of 24000 MiB"),
        (
            (card(0), replace(card(1), taints=("gpu.gpumem.io/lost:NoExecute",))),
            "cards-differ",
            "offers cards of 24000 MiB; gpu-1 has the taint gpu.gpumem.io/lost:NoExecute",
        ),
        ((card(0), card(1, 23999)), "cards-differ", "offers cards of 24000 + 23999 MiB"),
    ],
)
def test_cards_that_are_not_offered_are_found(cards: tuple[OfferedCard, ...], id_: str, shown: str) -> None:
    (found,) = offered(facts(cards=cards))
    assert (found.id, found.severity, found.where) == (id_, Severity.ERROR, "Node gpu-worker")
    assert found.evidence == f"gpu.gpumem.io {shown}, wanted cards of 24000 + 24000 MiB or more"


def test_all_cards_or_larger_ones_are_no_fault() -> None:
    assert list(offered(facts())) == []
    assert list(offered(facts(cards=(card(0), card(1, 24100))))) == []


def test_who_publishes_the_cards_is_asked_to() -> None:
    def says(*pods: PodSeen, objects: Any, cards: tuple[OfferedCard, ...] = (), **more: Any) -> tuple[str, str]:
        (found,) = offered(facts(*pods, objects=objects, cards=cards, **more))
        return found.fix, found.command

    there: dict[ObjectName, Any] = {AGENT: {}}
    ready = PodSeen("gpu-operator", "agent", NODE, "Running", ready=True, owner=("DaemonSet", AGENT.name))
    starts = PodSeen("gpu-operator", "agent", NODE, "Pending", owner=("DaemonSet", AGENT.name))
    fix, command = says(ready, objects={})
    assert "not there" in fix
    assert "applications.argoproj.io" in command
    fix, command = says(starts, objects=there)
    assert "gpu-operator/agent is Pending and not ready" in fix
    assert command == ""
    assert says(objects=there)[0].startswith(f"{AGENT} publishes them, and it has no pod there")
    fix, command = says(ready, objects=there)
    assert command == "kubectl -n gpu-operator rollout restart daemonset/gpumem-dra-agent-gpu-worker"
    fix, command = says(ready, objects=there, cards=(card(0),))
    assert ("correct gpus" in fix, command) == (True, "")
    estate = on_claims()
    nvidia = estate.model_copy(update={"budget": estate.budget.model_copy(update={"published_by": "nvidia"})})
    fix, command = says(objects={}, estate=nvidia)
    assert ("NVIDIA's DRA driver" in fix, command) == (True, "")


def test_budgets_of_the_other_backend_are_found_on_both_kinds() -> None:
    ours = pod("old", "ollama", budget_mib=16000, claimed=False)
    (found,) = budgets_mixed(facts(ours))
    assert (found.id, found.severity) == ("budgets-mixed", Severity.ERROR)
    assert "by number: ai/old 16000" in found.evidence
    assert found.command == "gpumem migrate --to dra --node gpu-worker --execute -f gpumem.yaml"
    (found,) = budgets_mixed(facts(pod("stranger", budget_mib=5, claimed=False)))
    assert found.command == "kubectl -n ai delete pod stranger"
    claim = held("chat", 8000, 0, "old")
    numbers = facts(estate=on_both_backends(), nodes=(node(), node("old")), cards=(*CARDS, card(0, of="old")))
    assert list(budgets_mixed(numbers)) == []
    (found,) = budgets_mixed(facts(**{f: getattr(numbers, f) for f in ("estate", "nodes", "cards")}, held=(claim,)))
    assert "by claim: ai/chat-claim 8000" in found.evidence
    assert found.command == "gpumem migrate --to extendedResource --node old-node --execute -f gpumem.yaml"


def test_a_pod_with_a_claim_is_counted_and_one_without_is_not() -> None:
    assert list(uncounted(facts(pod("a", "ollama", runtime_class="nvidia")))) == []
    (found,) = uncounted(facts(pod("a", claimed=False, runtime_class="nvidia")))
    assert found.id == "pod-gpu-unasked"
    (found,) = uncounted(facts(pod("a", claimed=False, requests={"nvidia.com/gpu": 1})))
    assert found.id == "pod-without-budget"
    assert "asks for nvidia.com/gpu and has no claim" in found.evidence
    assert found.fix == "declare it as a tenant in gpumem.yaml"


@pytest.mark.parametrize(
    ("claims", "status", "counted"),
    [
        ([{"name": "gpumem", "resourceClaimTemplateName": "gpumem-ollama-16000"}], [], True),
        ([{"name": "x", "resourceClaimName": "card"}], [], True),
        ([{"name": "x", "resourceClaimTemplateName": "t"}], [{"name": "x", "resourceClaimName": "card"}], True),
        ([{"name": "x", "resourceClaimName": "nic"}], [], False),
        ([], [], False),
    ],
)
def test_a_claim_on_a_card_is_told_from_others(claims: list[Any], status: list[Any], counted: bool) -> None:
    requests = {"card": "gpumem", "nic": "rdma"}
    known = [
        {
            "metadata": {"namespace": "ai", "name": name},
            "spec": {"devices": {"requests": [{"exactly": {"deviceClassName": of}}]}},
        }
        for name, of in requests.items()
    ]
    manifest = {
        "metadata": {"namespace": "ai", "name": "a"},
        "spec": {"containers": [], "resourceClaims": claims},
        "status": {"resourceClaimStatuses": status},
    }
    assert pod_seen(manifest, on_claims(), (), asking_claims(known, ())).claimed is counted
    assert asking_claims((), [held("a", 1, 0)]) == {("ai", "a-claim")}


def test_the_device_plugins_shares_are_read_on_nodes_of_claims_too() -> None:
    """Without them a node that uses the operator's default configuration looked as if it used none."""
    labels = {"node-type": "gpu-worker"}
    status = {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "8"}}
    manifest = {"metadata": {"name": NODE, "labels": labels}, "status": status}
    estate = on_claims()
    seen = node_seen(manifest, capacity_settings(estate), estate)
    assert seen.facts.shares == {"nvidia.com/gpu": 8}
    assert list(plugin_config_selected(facts(nodes=(seen,)))) == []


FULL = (held("a", 16000, 0), held("b", 16000, 1))


def test_a_tenant_waits_for_one_card_however_much_all_have_together() -> None:
    pods = [pod("a", "ollama"), pod("b", "comfyui")]
    (found,) = waiting(facts(*pods, waits("ollama"), held=FULL))
    assert (found.id, found.severity) == ("tenant-pending", Severity.ERROR)
    assert found.evidence == (
        "1 pod(s) wait for 16000 MiB of one card on gpu-worker; held there: "
        "ai/a 16000 on gpu-worker/gpu-0, ai/b 16000 on gpu-worker/gpu-1"
    )
    assert found.command == "gpumem release comfyui -f gpumem.yaml"


@pytest.mark.parametrize(
    ("claims", "more"),
    [
        (FULL[:1], {}),  # there is room: something else keeps it
        (FULL, {"terminating": True}),
        (FULL, {"owner": ("Job", "train")}),
        ((held("a", 16000, 0), held("gone", 16000, 1)), {}),  # its claim is about to be given back
    ],
)
def test_a_tenant_whose_card_gets_free_is_no_fault(claims: Any, more: dict[str, Any]) -> None:
    seen = [pod("a", "ollama"), pod("b", "comfyui", **more)]
    assert list(waiting(facts(*seen, waits("ollama"), held=claims))) == []


def test_a_claim_that_nobody_uses_holds_its_card_and_is_nobodys_to_give() -> None:
    holds = (held("hold", 16000, 0, pods=()), held("b", 16000, 1, pods=()))
    (found,) = waiting(facts(waits("ollama"), held=holds))
    assert "claim ai/hold-claim 16000 on gpu-worker/gpu-0" in found.evidence
    assert found.command == ""


def test_a_pod_of_nobodys_is_named_before_any_tenant() -> None:
    (found,) = waiting(facts(pod("a", "comfyui"), pod("b"), waits("ollama"), held=FULL))
    assert found.command == "kubectl -n ai delete pod b"


def test_a_card_of_another_model_has_no_room_for_a_tenant_that_names_one() -> None:
    estate = on_claims()
    chosen = [t.model_copy(update={"gpu_model": "NVIDIA GeForce RTX 3090"} if t.name == "ollama" else {}) for t in
              estate.tenants]  # fmt: skip
    estate = estate.model_copy(update={"tenants": tuple(chosen)})
    other = (card(0), card(1, model="Tesla T4"))
    pods = (pod("a", "ollama"), waits("ollama"))
    assert list(waiting(facts(*pods, held=FULL[:1]))) == []
    assert [one.id for one in waiting(facts(*pods, held=FULL[:1], cards=other, estate=estate))] == ["tenant-pending"]


def test_a_tenant_that_waits_for_missing_cards_is_said_once_and_elsewhere() -> None:
    assert list(waiting(facts(waits("ollama"), cards=()))) == []


ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_rollout_needs_room_on_one_card() -> None:
    objects = workload("ollama", "gpumem-ollama-16000", strategy=ROLLING)
    stuck = facts(pod("a", "ollama"), objects=objects, held=(held("a", 16000, 0), held("b", 8001, 1)))
    (found,) = of_tenant("ollama", stuck)
    assert found.id == "rollout-stuck"
    assert "no card has 16000 MiB left (15999)" in found.evidence
    assert of_tenant("ollama", facts(objects=objects, held=(held("a", 16000, 0), held("b", 8000, 1)))) == []
    assert of_tenant("ollama", facts(objects=objects, cards=())) == []


def test_a_workload_with_its_claim_and_no_number_is_well() -> None:
    assert of_tenant("ollama", facts(objects=workload("ollama", "gpumem-ollama-16000", owners=("argocd",)))) == []


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("gpumem-comfyui-8000", "its claim is by template gpumem-comfyui-8000; the estate says gpumem-comfyui-16000"),
        ("", "it has no claim gpumem; the estate says gpumem-comfyui-16000, 16000 MiB"),
    ],
)
def test_another_claim_or_none_is_drift(template: str, shown: str) -> None:
    (found,) = of_tenant("comfyui", facts(objects=workload("comfyui", template, owners=("helm",))))
    assert (found.id, found.severity) == ("budget-drift", Severity.ERROR)
    assert shown in found.evidence
    assert found.evidence.endswith("owned by helm")
    assert found.command == "gpumem budget set comfyui --force -f gpumem.yaml"


def test_a_container_that_does_not_use_the_claim_is_drift() -> None:
    objects = workload("ollama", "gpumem-ollama-16000")
    (found,) = objects.values()
    found["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    (drift,) = of_tenant("ollama", facts(objects=objects))
    assert drift.id == "budget-drift"
    assert "container ollama does not use the claim of gpumem-ollama-16000" in drift.evidence


def test_a_share_or_the_number_beside_the_claim_is_a_second_chooser() -> None:
    limits = {RESOURCE: "16k", "nvidia.com/gpu": "2"}
    (found,) = of_tenant("comfyui", facts(objects=workload("comfyui", "gpumem-comfyui-16000", limits=limits)))
    assert (found.id, found.severity) == ("claim-and-number", Severity.ERROR)
    assert f"asks for nvidia.com/gpu and {RESOURCE}" in found.evidence
    assert "limits/viktorbarzin.me~1gpumem" in found.command
    assert "limits/nvidia.com~1gpu" in found.command


@pytest.mark.parametrize("place", ["containers", "initContainers"])
def test_a_container_beside_the_tenants_own_is_a_second_chooser_too(place: str) -> None:
    objects = workload("comfyui", "gpumem-comfyui-16000")
    (found,) = objects.values()
    sidecar = {"name": "sidecar", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    found["spec"]["template"]["spec"].setdefault(place, []).append(sidecar)
    index = len(found["spec"]["template"]["spec"][place]) - 1
    (finding,) = of_tenant("comfyui", facts(objects=objects))
    assert finding.id == "claim-and-number"
    assert f"/spec/template/spec/{place}/{index}/resources/limits/nvidia.com~1gpu" in finding.command


def test_two_owners_of_one_claim_are_told() -> None:
    objects = workload("comfyui", "gpumem-comfyui-16000", owners=("gpumem-budget", "helm"))
    (found,) = of_tenant("comfyui", facts(objects=objects))
    assert (found.id, found.severity) == ("budget-two-owners", Severity.WARNING)
    assert "the claim is owned by gpumem-budget and helm" in found.evidence
    assert "not gpumem-budget" in found.fix


def test_a_template_that_asks_for_something_else_than_its_name_says_is_made_anew() -> None:
    (wanted,) = [
        item.manifest
        for item in render(on_claims()).objects
        if item.kind == "ResourceClaimTemplate" and item.manifest["metadata"]["name"] == "gpumem-ollama-16000"
    ]
    found = copy.deepcopy(dict(wanted))
    request = found["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    request["capacity"]["requests"]["memory"] = "8000Mi"
    name = ObjectName("ResourceClaimTemplate", "ai", "gpumem-ollama-16000")
    assert list(objects(facts(wanted={name: wanted}, objects={name: wanted}))) == []
    (one,) = objects(facts(wanted={name: wanted}, objects={name: found}))
    assert (one.id, one.severity) == ("claim-template-differs", Severity.ERROR)
    assert "memory is 8000Mi; the estate says 16000Mi" in one.evidence
    assert one.command.startswith("kubectl -n ai delete resourceclaimtemplate gpumem-ollama-16000 && ")
