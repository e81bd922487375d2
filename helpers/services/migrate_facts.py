"""What a move from one backend to the other has to know: whose pods are counted how, and by which objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.domain.admission.claims import has_claim
from helpers.domain.budget import API_VERSION
from helpers.domain.capacity import NodeFacts, NodeKind, Shortfall, capacity_settings, node_kinds
from helpers.domain.dra.claims import claim_template_name
from helpers.domain.dra.gate import card_shortfalls
from helpers.domain.dra.migration import OldPod, TenantFacts
from helpers.domain.dra.offers import OfferedCard
from helpers.domain.estate.budget_backend import CountedBy, NodeBudget
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.names import released_replicas_annotation
from helpers.domain.pod_phase import ENDED, NOT_ENDED
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.capacity_observation import PODS, observe_nodes, pod_budget_mib
from helpers.services.claims import observe_cards
from helpers.services.live import tenant_pods


def with_backend(estate: Estate, kinds: Sequence[str], backend: CountedBy) -> Estate:
    """`estate` with these kinds of nodes on `backend`, and every other as it is."""
    nodes = tuple(
        node.model_copy(
            update={"budget": NodeBudget(backend=backend if node.name in kinds else _backend(estate, node.name))}
        )
        for node in estate.nodes
    )
    return estate.model_copy(update={"nodes": nodes})


def migrating_annotation(label_prefix: str) -> str:
    """Says on a workload that a move stopped it, so that a move that was broken off starts it again."""
    return f"{label_prefix}/migrating"


def workload_of(cluster: Cluster, tenant: Tenant) -> Manifest | None:
    """The tenant's workload, or None."""
    return cluster.get(ObjectRef(API_VERSION, tenant.workload.kind, tenant.workload.name, tenant.namespace))


def nodes_of(cluster: Cluster, estate: Estate, kind: str) -> tuple[NodeFacts, ...]:
    """The cluster's nodes of this kind."""
    wanted = _kind(estate, kind)
    found = observe_nodes(cluster, capacity_settings(estate))
    return tuple(node for node in found if wanted.matches(node.name, node.labels))


def missing_cards(cluster: Cluster, target: Estate, kind: str) -> tuple[Shortfall, ...]:
    """What keeps this kind's nodes from offering all their cards to claims."""
    settings = capacity_settings(target)
    alone = settings.model_copy(
        update={"nodes": (), "claim_nodes": tuple(node for node in settings.claim_nodes if node.name == kind)}
    )
    cards = observe_cards(cluster, settings.claims_driver)
    return card_shortfalls(alone, nodes_of(cluster, target, kind), cards)


def cards_of_kind(cluster: Cluster, target: Estate, kind: str) -> tuple[OfferedCard, ...]:
    """The cards that claims can have on nodes of this kind."""
    names = {node.name for node in nodes_of(cluster, target, kind)}
    cards = observe_cards(cluster, capacity_settings(target).claims_driver)
    return tuple(card for card in cards if card.node in names)


def tenant_facts(cluster: Cluster, target: Estate, kind: str) -> tuple[TenantFacts, ...]:
    """Every tenant of `kind`, as the cluster has it now; those whose workload is not there are left out."""
    pods = tenant_pods(cluster, target)
    found = []
    for tenant in target.tenants:
        workload = workload_of(cluster, tenant) if tenant.node == kind else None
        if workload is not None:
            found.append(_facts(target, tenant, workload, pods[tenant.name]))
    return tuple(found)


def numbered_pods(cluster: Cluster, estate: Estate, kind: str = "") -> tuple[OldPod, ...]:
    """Every pod that the number let in and that has not ended, whoever's; on nodes of `kind`, or anywhere."""
    nodes = {node.name for node in nodes_of(cluster, estate, kind)} if kind else None
    pods = _old_pods(estate, cluster.list(PODS, field_selector=NOT_ENDED))
    return tuple(sorted((pod for pod in pods if nodes is None or pod.node in nodes), key=str))


def claimed_pods(cluster: Cluster, estate: Estate, kind: str) -> tuple[str, ...]:
    """Pods of this kind's tenants that have a claim and have not ended: `namespace/name`."""
    names = {tenant.name for tenant in estate.tenants if tenant.node == kind}
    pods = (pod for name, found in tenant_pods(cluster, estate).items() if name in names for pod in found)
    return tuple(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods if _is_live(p) and has_claim(p))


def _facts(target: Estate, tenant: Tenant, workload: Manifest, pods: Sequence[Manifest]) -> TenantFacts:
    annotations: Mapping[str, Any] = workload["metadata"].get("annotations") or {}
    template = workload["spec"]["template"]["spec"]
    claims = {item["name"]: item.get("resourceClaimTemplateName") for item in template.get("resourceClaims") or ()}
    moved = claim_template_name(target, tenant) in claims.values()
    if tenant.apply == "admission":
        # Nothing in its workload tells; that a pod of it came with a claim does.
        moved = any(has_claim(pod) for pod in pods if _is_live(pod))
    stopped = migrating_annotation(target.label_prefix) in annotations
    return TenantFacts(
        tenant=tenant,
        old_pods=tuple(_old_pods(target, pods)),
        replicas=_replicas(target, tenant, workload, stopped=stopped),
        moved=moved,
        stopped=stopped,
        waiting_count=sum(_is_live(pod) and has_claim(pod) and not pod["spec"].get("nodeName") for pod in pods),
    )


def _replicas(estate: Estate, tenant: Tenant, workload: Manifest, *, stopped: bool) -> int | None:
    if tenant.workload.kind == "DaemonSet":
        return None
    now = int(workload["spec"].get("replicas", 1))
    text = (workload["metadata"].get("annotations") or {}).get(released_replicas_annotation(estate.label_prefix), "")
    return int(text) if stopped and not now and text.isdigit() else now


def _old_pods(estate: Estate, pods: Sequence[Manifest]) -> Iterator[OldPod]:
    for pod in pods:
        budget_mib = pod_budget_mib(pod, estate.resource)
        node = pod["spec"].get("nodeName")
        if budget_mib and node and _is_live(pod):
            metadata = pod["metadata"]
            yield OldPod(metadata["namespace"], metadata["name"], metadata["uid"], node, budget_mib)


def _is_live(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") not in ENDED


def _kind(estate: Estate, name: str) -> NodeKind:
    return next(kind for kind in node_kinds(estate) if kind.name == name)


def _backend(estate: Estate, name: str) -> CountedBy:
    return "dra" if estate.uses_claims(estate.node(name)) else "extendedResource"
