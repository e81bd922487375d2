"""From API objects to doctor's facts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from helpers.domain.admission.claims import has_claim
from helpers.domain.capacity import CapacitySettings
from helpers.domain.doctor.facts import Need, NodeSeen, ObjectName, PodSeen, Taint
from helpers.domain.dra.naming import DEVICE_CLASS
from helpers.domain.dra.offers import HeldMemory
from helpers.domain.estate.model import Estate
from helpers.domain.pod_owner import workload_of
from helpers.ports.cluster import Manifest
from helpers.ports.watchdog_telemetry import Scrape
from helpers.services.capacity_observation import node_facts, pod_budget_mib
from helpers.services.watchdog_targets import SERVICE_LABEL


def name_of(manifest: Manifest) -> ObjectName:
    """Which object it is."""
    metadata = manifest["metadata"]
    return ObjectName(str(manifest["kind"]), str(metadata.get("namespace") or ""), str(metadata["name"]))


def node_seen(node: Manifest, settings: CapacitySettings, estate: Estate) -> NodeSeen:
    """One Node object."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    taints = tuple(
        Taint(str(one["key"]), str(one.get("value") or ""), str(one["effect"]))
        for one in (node.get("spec") or {}).get("taints") or ()
    )
    # The device plugin's shares are there on nodes of both backends.
    shares = [entry.share_resource() for entry in estate.nodes]
    return NodeSeen(node_facts(node, settings, shares=shares), ready, taints)


def gpu_resources(estate: Estate) -> tuple[str, ...]:
    """Every name by which a pod may ask for a card of the estate, or for a share of one."""
    return tuple(sorted({name for node in estate.nodes for name in node.gpu_resources()}))


def asking_claims(claims: Iterable[Manifest], held: Iterable[HeldMemory]) -> frozenset[tuple[str, str]]:
    """Namespace and name of the claims that ask for memory of a card, or have some."""
    asking = {
        (str(one["metadata"]["namespace"]), str(one["metadata"]["name"])) for one in claims if _asks_for_memory(one)
    }
    return frozenset(asking | {(one.namespace, one.claim) for one in held})


def _asks_for_memory(claim: Manifest) -> bool:
    requests = (claim["spec"].get("devices") or {}).get("requests") or ()
    asked = [one.get("exactly") or {} for one in requests] + [
        each for one in requests for each in one.get("firstAvailable") or ()
    ]
    return any(one.get("deviceClassName") == DEVICE_CLASS for one in asked)


def pod_seen(
    pod: Manifest, estate: Estate, resources: tuple[str, ...], claims: Collection[tuple[str, str]] = ()
) -> PodSeen:
    """One Pod object; `claims` are those on memory of a card, as `asking_claims` answers."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    conditions = {str(one.get("type")): one for one in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    requests = {name: count for name in resources if (count := pod_budget_mib(pod, name))}
    return PodSeen(
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        node=str(spec.get("nodeName") or ""),
        phase=str(status.get("phase") or "Unknown"),
        reason=str(status.get("reason") or ""),
        unplaced=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else "",
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        terminating="deletionTimestamp" in metadata,
        owner=workload_of(metadata),
        labels=dict(metadata.get("labels") or {}),
        runtime_class=str(spec.get("runtimeClassName") or ""),
        requests=requests,
        budget_mib=pod_budget_mib(pod, estate.resource),
        claimed=has_claim(pod) or any((str(metadata["namespace"]), name) in claims for name in _claims_of(pod)),
    )


def _claims_of(pod: Manifest) -> set[str]:
    """Names of the claims that a pod uses: its own, and those that were made for it."""
    named = [
        *(pod["spec"].get("resourceClaims") or ()),
        *((pod.get("status") or {}).get("resourceClaimStatuses") or ()),
    ]
    return {str(one["resourceClaimName"]) for one in named if one.get("resourceClaimName")}


def ready_endpoints(slices: Iterable[Manifest]) -> dict[tuple[str, str], int]:
    """`{(namespace, service): addresses that take traffic}`. An unknown readiness counts as ready, as it does there."""
    found: dict[tuple[str, str], int] = {}
    for one in slices:
        metadata = one["metadata"]
        service = (metadata.get("labels") or {}).get(SERVICE_LABEL)
        if service is None:
            continue
        ready = sum((each.get("conditions") or {}).get("ready") is not False for each in one.get("endpoints") or ())
        key = (str(metadata["namespace"]), str(service))
        found[key] = found.get(key, 0) + ready
    return found


def needs_now(scrapes: Iterable[Scrape], pods: Iterable[PodSeen], estate: Estate) -> tuple[Need, ...]:
    """The most that a pod of each tenant uses now, over all cards."""
    used: dict[tuple[str, str], int] = {}
    for scrape in scrapes:
        for sample in scrape.samples or ():
            for one in sample.pods if sample.ok else ():
                used[one.namespace, one.pod] = used.get((one.namespace, one.pod), 0) + one.used_mib
    found = []
    for tenant in estate.tenants:
        mine = [(used[pod.namespace, pod.name], str(pod)) for pod in pods
                if pod.belongs_to(tenant) and (pod.namespace, pod.name) in used]  # fmt: skip
        if mine:
            used_mib, name = max(mine)
            found.append(Need(tenant.name, used_mib, f"{name} uses now"))
    return tuple(found)


def scrape_problem(scrape: Scrape) -> str:
    """What is wrong with an exporter's answer; empty where nothing is."""
    if scrape.samples is None:
        return scrape.problem
    if not scrape.samples:
        return "it knows no card"
    return "; ".join(f"card {one.gpu}: {one.error}" for one in scrape.samples if not one.ok)


def trust_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """`{webhook: its caBundle as PEM}`, undecoded base64 as the API gives it; empty where there is none."""
    return {
        str(one["name"]): str((one.get("clientConfig") or {}).get("caBundle") or "")
        for one in configuration.get("webhooks") or ()
    }
