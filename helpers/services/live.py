"""What a cluster shows of an estate: capacity on the nodes, tenants' pods, and why some are Pending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.domain.capacity import NodeKind, node_kinds
from helpers.domain.dra.claims import driver_of
from helpers.domain.dra.offers import CardKey, HeldMemory, OfferedCard
from helpers.domain.estate.model import Estate
from helpers.domain.pod_owner import workload_of
from helpers.domain.pod_phase import ENDED
from helpers.domain.quantity import Quantity
from helpers.domain.report import LiveCardRow, NodeRow, Report, TenantRow, TenantState, static_report
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.claims import observe_cards, observe_held


def live_report(cluster: Cluster, estate: Estate) -> Report:
    """The report of `estate` with what `cluster` shows now."""
    report = static_report(estate)
    states = tenant_states(cluster, estate)
    offered = observe_cards(cluster, driver_of(estate)) if estate.claim_nodes() else ()
    shown = _shown_by_kind(cluster, estate, offered)
    live_cards = _live_cards(cluster, estate, offered) if offered else ()
    for tenant in estate.tenants:
        cards = tuple(row.card for row in live_cards if tenant.name in row.tenants)
        states[tenant.name] = states[tenant.name].model_copy(update={"cards": cards})
    nodes = tuple(_with_live(node, states, shown, live_cards) for node in report.nodes)
    return report.model_copy(update={"live": True, "nodes": nodes})


def _live_cards(cluster: Cluster, estate: Estate, offered: Sequence[OfferedCard]) -> tuple[LiveCardRow, ...]:
    """Every offered card of the cluster with what claims have of it, whoever made them."""
    label = f"{estate.label_prefix}/tenant"
    held: dict[CardKey, list[HeldMemory]] = {}
    for one in observe_held(cluster, driver_of(estate)):
        held.setdefault(one.key, []).append(one)
    return tuple(
        LiveCardRow(
            card=f"{card.node}/{card.device}",
            uuid=card.uuid,
            model=card.model,
            offered_mib=card.memory_mib,
            claimed_mib=sum(one.memory_mib for one in held.get(card.key, ())),
            tenants=tuple(one.labels.get(label, f"{one.namespace}/{one.claim}") for one in held.get(card.key, ())),
        )
        for card in offered
    )


def _with_live(
    node: NodeRow,
    states: Mapping[str, TenantState],
    shown: Mapping[str, dict[str, int | None]],
    live_cards: Sequence[LiveCardRow],
) -> NodeRow:
    tenants: tuple[TenantRow, ...] = tuple(row.model_copy(update={"state": states[row.tenant]}) for row in node.tenants)
    mine = tuple(row for row in live_cards if row.card.rpartition("/")[0] in shown[node.name])
    return node.model_copy(update={"tenants": tenants, "shown_mib": shown[node.name], "live_cards": mine})


def _shown_by_kind(
    cluster: Cluster, estate: Estate, offered: Sequence[OfferedCard]
) -> dict[str, dict[str, int | None]]:
    kinds, claimed = node_kinds(estate), {node.name for node in estate.claim_nodes()}
    offered_mib = _offered_mib(offered)
    shown: dict[str, dict[str, int | None]] = {kind.name: {} for kind in kinds}
    for node in cluster.list(ObjectRef("v1", "Node")):
        name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
        for kind in kinds:
            if kind.matches(name, labels):
                by_number = kind.name not in claimed
                shown[kind.name][name] = (
                    _allocatable_mib(node, estate.resource, kind) if by_number else offered_mib.get(name)
                )
    return shown


def _offered_mib(offered: Sequence[OfferedCard]) -> dict[str, int]:
    """`{node: MiB of all its cards}` that claims can have."""
    mib: dict[str, int] = {}
    for card in offered:
        mib[card.node] = mib.get(card.node, 0) + card.memory_mib
    return mib


def _allocatable_mib(node: Manifest, resource: str, kind: NodeKind) -> int | None:
    text = node.get("status", {}).get("allocatable", {}).get(resource)
    if text is None:
        return None
    return Quantity.parse(text).as_count(f"node {node['metadata']['name']} ({kind.name}) allocatable {resource}")


def tenant_states(cluster: Cluster, estate: Estate) -> dict[str, TenantState]:
    """`{tenant: state}` for every tenant of `estate`, those without pods included."""
    return {name: _state(found) for name, found in tenant_pods(cluster, estate).items()}


def tenant_pods(cluster: Cluster, estate: Estate) -> dict[str, list[Manifest]]:
    """`{tenant: its pods}`, told by their controllers."""
    owners = {tenant.key: tenant for tenant in estate.tenants}
    pods: dict[str, list[Manifest]] = {tenant.name: [] for tenant in estate.tenants}
    for namespace in sorted({tenant.namespace for tenant in estate.tenants}):
        for pod in cluster.list(ObjectRef("v1", "Pod", namespace=namespace)):
            tenant = owners.get((namespace, *workload_of(pod["metadata"])))
            if tenant is not None:
                pods[tenant.name].append(pod)
    return pods


def _state(pods: list[Manifest]) -> TenantState:
    phases = [str(pod.get("status", {}).get("phase", "Unknown")) for pod in pods]
    running, pending = phases.count("Running"), phases.count("Pending")
    other = sum(phase not in ("Running", "Pending", *ENDED) for phase in phases)
    reasons = [reason for reason in map(_pending_reason, pods) if reason]
    return TenantState(
        running_count=running, pending_count=pending, other_count=other, reason=reasons[0] if reasons else ""
    )


def _pending_reason(pod: Manifest) -> str:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message", condition.get("reason", "")))
    return ""
