"""Rules about pods: who sits on a card uncounted, who waits for nothing, who was refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from helpers.domain.doctor.commands import gpumem, kubectl
from helpers.domain.doctor.facts import DoctorFacts, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.doctor.places import Place, all_known, places_of
from helpers.domain.estate.tenants import Tenant
from helpers.domain.pod_phase import ENDED

# Nobody's tenants: the operator's own pods see cards without asking for one.
_OPERATOR_NAMESPACES = ("gpu-operator", "kube-system")


def uncounted(facts: DoctorFacts) -> Iterator[Finding]:
    """Pods that see a card and are in no account."""
    estate = facts.estate
    ours = {estate.namespace, *_OPERATOR_NAMESPACES, *estate.watchdog.protected_namespaces}
    if estate.admission is not None:
        ours |= set(estate.admission.excluded_namespaces)
    for pod in facts.pods:
        if pod.phase in ENDED or pod.namespace in ours or pod.budget_mib or pod.claimed:
            continue
        whose = f"{pod.owner[0]} {pod.owner[1]}" if pod.owner[0] else "a bare pod"
        if pod.requests:
            lacks = "has no claim" if _counted_by_claims(facts, pod) else f"declares no {estate.resource}"
            limit = "" if _counted_by_claims(facts, pod) else f", or put {estate.resource} into its limits"
            yield Finding(
                "pod-without-budget",
                Severity.WARNING,
                f"Pod {pod}",
                f"{whose}; it asks for {', '.join(sorted(pod.requests))} and {lacks}, so its memory is "
                "promised to others as well",
                f"declare it as a tenant in {facts.estate_file}{limit}",
            )
        elif pod.runtime_class == estate.runtime_class.name:
            yield Finding(
                "pod-gpu-unasked",
                Severity.WARNING,
                f"Pod {pod}",
                f"{whose}; runtimeClassName {pod.runtime_class} shows it every card, and it asks for neither a share "
                "nor memory",
                "let it ask for a share and a budget, or take runtimeClassName away",
            )


def _counted_by_claims(facts: DoctorFacts, pod: PodSeen) -> bool:
    if not pod.node:
        return not facts.estate.number_nodes()
    return any(node.name == pod.node for entry in facts.estate.claim_nodes() for node in facts.nodes_of(entry))


def refused(facts: DoctorFacts) -> Iterator[Finding]:
    """Pods that a kubelet failed because the node's number was under what ran there."""
    failed: dict[str, list[PodSeen]] = defaultdict(list)
    for pod in facts.pods:
        if pod.phase == "Failed" and pod.reason.startswith("OutOf"):
            failed[pod.namespace].append(pod)
    for namespace, pods in sorted(failed.items()):
        names = sorted(pod.name for pod in pods)
        reasons = ", ".join(sorted({pod.reason for pod in pods}))
        yield Finding(
            "pods-out-of-resource",
            Severity.WARNING,
            f"namespace {namespace}",
            f"{len(pods)} pod(s) failed with {reasons}, as when a node's number was gone or lowered: "
            f"{', '.join(names[:5])}",
            "their controllers have made others; remove them",
            kubectl("delete", "pod", *names, namespace=namespace),
        )


def waiting(facts: DoctorFacts) -> Iterator[Finding]:
    """Tenants that wait for memory which nobody is about to free."""
    for tenant in facts.estate.tenants:
        # The scheduler names what is short: `Insufficient viktorbarzin.me/gpumem`, or that no card holds the claim.
        claimed = facts.estate.is_claimed(tenant)
        said = "cannot allocate all claims" if claimed else f"Insufficient {facts.estate.resource}"
        short = [pod for pod in facts.pods_of(tenant) if said in pod.unplaced]
        if short and not _will_be_free(facts, tenant):
            yield _waits(facts, tenant, short)


def _will_be_free(facts: DoctorFacts, tenant: Tenant) -> bool:
    """Whether a place has room, or gets it by what ends anyway; or a node's memory is unknown: another rule says it."""
    if not all_known(facts, tenant):
        return True
    for place in places_of(facts, tenant):
        staying_mib = sum(one.held_mib for one in place.holders if not one.ends)
        if place.memory_mib - staying_mib >= tenant.budget_mib:
            return True
    return False


def _waits(facts: DoctorFacts, tenant: Tenant, pods: list[PodSeen]) -> Finding:
    holders = sorted(
        ((one, place) for place in places_of(facts, tenant) for one in place.holders),
        key=lambda pair: (-pair[0].held_mib, pair[0].name),
    )
    held = ", ".join(place.said(one) for one, place in holders[:8])
    one_card = "of one card " if facts.estate.is_claimed(tenant) else ""
    fix, command = _who_could_give(facts, tenant)
    return Finding(
        "tenant-pending",
        Severity.INFO if tenant.elastic else Severity.ERROR,
        f"tenant {tenant.name}",
        f"{len(pods)} pod(s) wait for {tenant.budget_mib} MiB {one_card}on {tenant.node}; held there: {held}",
        fix,
        command,
    )


def _who_could_give(facts: DoctorFacts, tenant: Tenant) -> tuple[str, str]:
    places, tenants = places_of(facts, tenant), facts.estate.tenants
    enough = [
        (one.held_mib, pod)
        for place in places
        for one in place.holders
        for pod in one.pods
        if len(one.pods) == 1 and not any(pod.belongs_to(other) for other in tenants)
        if one.held_mib + place.free_mib >= tenant.budget_mib
    ]
    if enough:
        _, pod = min(enough, key=lambda pair: (pair[0], str(pair[1])))
        return f"{pod} is no tenant: declare it, or end it", kubectl("delete", "pod", pod.name, namespace=pod.namespace)
    givers = [
        other
        for other in tenants
        if other.name != tenant.name
        and other.workload.kind != "DaemonSet"
        and any(_gives(place, other, tenant.budget_mib) for place in places)
    ]
    if not givers:
        return "no single tenant could give so much; see `gpumem report --live`", ""
    # Whoever may wait goes first, then whoever can wait, then the lowest priority.
    first = min(
        givers,
        key=lambda other: (
            not other.elastic,
            other.workload_class != "batch",
            facts.estate.priority_value(other),
            other.budget_mib,
            other.name,
        ),
    )
    return f"release {first.name} ({first.workload_class}), which frees enough", gpumem(facts, "release", first.name)


def _gives(place: Place, tenant: Tenant, least_mib: int) -> bool:
    """Whether the place has so much free once the tenant's pods are gone from it."""
    given = [one.held_mib for one in place.holders if one.belongs_to(tenant)]
    return bool(given) and place.free_mib + sum(given) >= least_mib
