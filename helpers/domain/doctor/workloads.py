"""Rules about tenants' workloads: there, with their container, and with the estate's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from helpers.domain import names
from helpers.domain.budget import budget_fields
from helpers.domain.doctor.claimed import claimed
from helpers.domain.doctor.commands import apply_objects, gpumem, kubectl_patch
from helpers.domain.doctor.facts import DoctorFacts, Manifest, name_of
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.doctor.owners import budget_findings, owners_of_limit
from helpers.domain.doctor.places import places_of
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.tenants import Strategy, Tenant
from helpers.domain.json_pointer import escaped
from helpers.domain.quantity import Quantity

_REQUESTS, _LIMITS = "requests", "limits"


def workloads(facts: DoctorFacts) -> Iterator[Finding]:
    """Each tenant's workload, from the outside in: one fault hides those behind it."""
    for tenant in facts.estate.tenants:
        found = facts.workload(tenant)
        if found is None:
            yield _absent(facts, tenant)
            continue
        container = container_of(found, tenant)
        if container is None:
            yield _no_container(tenant, found)
            continue
        yield from _released(facts, tenant, found)
        yield from _surges(facts, tenant, found)
        if facts.estate.is_claimed(tenant):
            if tenant.apply != "admission":  # there the claim is in the pods alone
                yield from claimed(facts, tenant, found, container)
            continue
        renamed = _renamed(facts, tenant, found)
        if renamed is not None:
            yield renamed
        elif tenant.apply != "admission":  # there the budget is in the pods alone
            yield from _budget(facts, tenant, found, container)


def container_of(workload: Manifest, tenant: Tenant) -> Mapping[str, Any] | None:
    """The container that the estate names, or None."""
    containers = workload["spec"]["template"]["spec"]["containers"]
    return next((one for one in containers if one["name"] == tenant.workload.container), None)


def _absent(facts: DoctorFacts, tenant: Tenant) -> Finding:
    rendered = tenant.apply == "create"
    return Finding(
        "workload-absent",
        Severity.ERROR,
        f"tenant {tenant.name}",
        f"{name_of(tenant)} is not there",
        "apply it again" if rendered else "its owner has to make it; or correct workload and namespace in the estate",
        apply_objects(facts, name_of(tenant)) if rendered else "",
    )


def _no_container(tenant: Tenant, found: Manifest) -> Finding:
    known = [str(one["name"]) for one in found["spec"]["template"]["spec"]["containers"]]
    return Finding(
        "container-absent",
        Severity.ERROR,
        f"tenant {tenant.name}",
        f"{name_of(tenant)} has no container {tenant.workload.container}; it has {', '.join(known)}",
        f"correct workload.container in the estate: {did_you_mean(tenant.workload.container, known)}",
    )


def _released(facts: DoctorFacts, tenant: Tenant, found: Manifest) -> Iterator[Finding]:
    annotation = names.released_replicas_annotation(facts.estate.label_prefix)
    remembered = (found["metadata"].get("annotations") or {}).get(annotation)
    if remembered is None or int(found["spec"].get("replicas", 1)) != 0:
        return
    by = [one for one in found["metadata"].get("managedFields") or () if one["manager"] == names.FIELD_MANAGER_RELEASE]
    since = max((str(one["time"]) for one in by if one.get("time")), default=None)
    if since is None:
        return
    hours = (facts.now_at - datetime.fromisoformat(since)) / timedelta(hours=1)
    if hours >= facts.thresholds.released_hours:
        yield Finding(
            "tenant-released",
            Severity.WARNING,
            f"tenant {tenant.name}",
            f"released for {hours:.0f} hours, since {since}; it had {remembered} replicas",
            "bring it back, or take it out of the estate",
            gpumem(facts, "restore", tenant.name),
        )


def _surges(facts: DoctorFacts, tenant: Tenant, found: Manifest) -> Iterator[Finding]:
    """A Deployment that cannot roll: it starts the new pod first, and nothing has room for one."""
    strategy = found["spec"].get("strategy")
    if tenant.workload.kind != "Deployment" or not strategy:
        return
    live = tenant.model_copy(update={"strategy": Strategy.model_validate(strategy)})
    places = places_of(facts, tenant)
    room_mib = max((place.free_mib for place in places), default=0)
    if live.rolls_without_room() or room_mib >= tenant.budget_mib or not places:
        return
    place = "card" if facts.estate.is_claimed(tenant) else "node"
    recreate = {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
    yield Finding(
        "rollout-stuck",
        Severity.WARNING,
        f"tenant {tenant.name}",
        f"{name_of(tenant)} starts {live.surge_count()} more pod(s) before an old one ends, and no {place} has "
        f"{tenant.budget_mib} MiB left ({room_mib}): its next rollout hangs",
        "let the old pod end first, in its owner's manifest too",
        kubectl_patch(name_of(tenant), recreate),
    )


def _renamed(facts: DoctorFacts, tenant: Tenant, found: Manifest) -> Finding | None:
    """A workload that asks for a share by a name that its node does not offer any more."""
    offered = facts.estate.node(tenant.node).share_resource()
    old = f"{offered}.shared" if not offered.endswith(".shared") else offered.removesuffix(".shared")
    patch: list[dict[str, Any]] = []
    for index, container in enumerate(found["spec"]["template"]["spec"]["containers"]):
        resources = container.get("resources") or {}
        for field in (_LIMITS, _REQUESTS):
            amounts = resources.get(field) or {}
            if Quantity.parse(amounts.get(old, "0")).as_count(f"{name_of(tenant)} {field}[{old}]") == 0:
                continue
            base = f"/spec/template/spec/containers/{index}/resources/{field}/"
            patch.append({"op": "remove", "path": base + escaped(old)})
            if offered not in amounts:
                patch.append({"op": "add", "path": base + escaped(offered), "value": amounts[old]})
    if not patch:
        return None
    return Finding(
        "resource-renamed",
        Severity.ERROR,
        f"tenant {tenant.name}",
        f"{name_of(tenant)} asks for {old}; nodes[{tenant.node}] offers {offered} (renameByDefault), so new pods wait",
        "ask by the new name, in its owner's manifest too",
        kubectl_patch(name_of(tenant), patch, how="json"),
    )


def _budget(facts: DoctorFacts, tenant: Tenant, found: Manifest, container: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = budget_fields(facts.estate, tenant).limits()
    limits = (container.get("resources") or {}).get(_LIMITS) or {}
    wrong = {key: limits.get(key) for key, value in wanted.items() if not _same(limits.get(key), value)}
    owners = owners_of_limit(found, tenant.workload.container, facts.estate.resource)
    shown = "; ".join(f"{key} is {value or 'absent'}, the estate says {wanted[key]}" for key, value in wrong.items())
    yield from budget_findings(facts, tenant, shown, owners, ("budget", facts.estate.resource))


def _same(shown: Any, wanted: str) -> bool:
    return shown is not None and Quantity.parse(str(shown)).value == Quantity.parse(wanted).value


def needs(facts: DoctorFacts) -> Iterator[Finding]:
    """Budgets under what was measured."""
    for need in facts.needs:
        tenant = facts.estate.tenant(need.tenant)
        if tenant is None or need.need_mib <= tenant.budget_mib:
            continue
        yield Finding(
            "budget-under-need",
            Severity.WARNING,
            f"tenant {tenant.name}",
            f"budget_mib is {tenant.budget_mib}; {need.source} {need.need_mib}",
            f"raise budget_mib in {facts.estate_file} (`gpumem recommend` says to what, and who could give), or cap "
            "the framework",
        )
