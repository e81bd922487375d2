"""Rules about pods: who sits on a card uncounted, who waits for nothing, who was refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from helpers.domain.doctor.commands import gpumem, kubectl
from helpers.domain.doctor.facts import DoctorFacts, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
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
        if pod.phase in ENDED or pod.namespace in ours or pod.budget_mib:
            continue
        whose = f"{pod.owner[0]} {pod.owner[1]}" if pod.owner[0] else "a bare pod"
        if pod.requests:
            yield Finding(
                "pod-without-budget",
                Severity.WARNING,
                f"Pod {pod}",
                f"{whose}; it asks for {', '.join(sorted(pod.requests))} and declares no {estate.resource}, so its "
                "memory is promised to others as well",
                f"declare it as a tenant in {facts.estate_file}, or put {estate.resource} into its limits",
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
        # The scheduler names what is short: `Insufficient viktorbarzin.me/gpumem`.
        short = [pod for pod in facts.pods_of(tenant) if f"Insufficient {facts.estate.resource}" in pod.unplaced]
        if short and not _will_be_free(facts, tenant):
            yield _waits(facts, tenant, short)


def _will_be_free(facts: DoctorFacts, tenant: Tenant) -> bool:
    """Whether a node has room, or gets it by what ends anyway; or lacks its number, which another rule says."""
    for node in facts.nodes_of(facts.estate.node(tenant.node)):
        shown_mib = node.facts.allocatable_mib
        if shown_mib is None:
            return True
        staying = [pod for pod in facts.pods if pod.node == node.name and pod.holds and not _ends(pod)]
        if shown_mib - sum(pod.budget_mib for pod in staying) >= tenant.budget_mib:
            return True
    return False


def _ends(pod: PodSeen) -> bool:
    return pod.terminating or pod.owner[0] == "Job"


def _waits(facts: DoctorFacts, tenant: Tenant, pods: list[PodSeen]) -> Finding:
    entry = facts.estate.node(tenant.node)
    here = {node.name for node in facts.nodes_of(entry)}
    holders = sorted(
        (pod for pod in facts.pods if pod.node in here and pod.holds and pod.budget_mib),
        key=lambda pod: (-pod.budget_mib, str(pod)),
    )
    held = ", ".join(f"{pod} {pod.budget_mib}" for pod in holders[:8])
    fix, command = _who_could_give(facts, tenant, holders)
    return Finding(
        "tenant-pending",
        Severity.INFO if tenant.elastic else Severity.ERROR,
        f"tenant {tenant.name}",
        f"{len(pods)} pod(s) wait for {tenant.budget_mib} MiB on {entry.name}; held there: {held}",
        fix,
        command,
    )


def _who_could_give(facts: DoctorFacts, tenant: Tenant, holders: list[PodSeen]) -> tuple[str, str]:
    by_tenant = {other.name: [p for p in holders if p.belongs_to(other)] for other in facts.estate.tenants}
    strangers = [pod for pod in holders if not any(pod in pods for pods in by_tenant.values())]
    enough = [pod for pod in strangers if pod.budget_mib + _free_mib(facts, pod.node) >= tenant.budget_mib]
    if enough:
        pod = min(enough, key=lambda pod: (pod.budget_mib, str(pod)))
        return f"{pod} is no tenant: declare it, or end it", kubectl("delete", "pod", pod.name, namespace=pod.namespace)
    givers = [
        other
        for other in facts.estate.tenants
        if other.name != tenant.name
        and other.workload.kind != "DaemonSet"
        and _gives(facts, by_tenant[other.name], tenant.budget_mib)
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


def _free_mib(facts: DoctorFacts, node: str) -> int:
    shown = next((one.facts.allocatable_mib for one in facts.nodes if one.name == node), None) or 0
    return shown - facts.held_mib(node)


def _gives(facts: DoctorFacts, pods: list[PodSeen], least_mib: int) -> bool:
    """Whether a node has so much free once these pods are gone from it."""
    return any(
        _free_mib(facts, node) + sum(pod.budget_mib for pod in pods if pod.node == node) >= least_mib
        for node in {pod.node for pod in pods}
    )
