"""Rules about a tenant whose budget is a claim: its workload has the estate's claim, and asks for no card besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.budget import budget_fields
from helpers.domain.doctor.commands import kubectl_patch
from helpers.domain.doctor.facts import DoctorFacts, Manifest, name_of
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.doctor.owners import budget_findings, owners_of_claim
from helpers.domain.dra.claims import CLAIM
from helpers.domain.estate.pod_checks import CONTAINER_LISTS
from helpers.domain.estate.tenants import Tenant
from helpers.domain.json_pointer import escaped


def claimed(facts: DoctorFacts, tenant: Tenant, found: Manifest, container: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with the claim in the workload `found` of `tenant`, whose container is `container`."""
    second = _second_chooser(facts, tenant, found)
    if second is not None:
        yield second
        return
    wanted = budget_fields(facts.estate, tenant).claim_template
    shown = _problem(found["spec"]["template"]["spec"], container, wanted, tenant)
    yield from budget_findings(facts, tenant, shown, owners_of_claim(found), ("claim", f"the claim {CLAIM}"))


def _problem(pod: Mapping[str, Any], container: Mapping[str, Any], wanted: str, tenant: Tenant) -> str:
    claims = {one["name"]: one for one in pod.get("resourceClaims") or ()}
    says = f"the estate says {wanted}, {tenant.budget_mib} MiB"
    if CLAIM not in claims:
        return f"it has no claim {CLAIM}; {says}"
    template = claims[CLAIM].get("resourceClaimTemplateName")
    if template != wanted:
        made = f"template {template}" if template else f"claim {claims[CLAIM].get('resourceClaimName')}"
        return f"its claim is by {made}; {says}"
    used = {one["name"] for one in (container.get("resources") or {}).get("claims") or ()}
    return "" if CLAIM in used else f"container {container['name']} does not use the claim of {wanted}"


def _second_chooser(facts: DoctorFacts, tenant: Tenant, found: Manifest) -> Finding | None:
    """A share or the number beside the claim: another card is chosen, or the memory counted twice."""
    asked = {facts.estate.resource, *facts.estate.node(tenant.node).gpu_resources()}
    shown: set[str] = set()
    patch: list[dict[str, Any]] = []
    pod = found["spec"]["template"]["spec"]
    fields = [
        (f"{place}/{index}/resources/{field}", (container.get("resources") or {}).get(field) or {})
        for place in CONTAINER_LISTS
        for index, container in enumerate(pod.get(place) or ())
        for field in ("limits", "requests")
    ]
    for path, amounts in fields:
        for name in sorted(asked & set(amounts)):
            patch.append({"op": "remove", "path": f"/spec/template/spec/{path}/{escaped(name)}"})
            shown.add(name)
    if not patch:
        return None
    return Finding(
        "claim-and-number",
        Severity.ERROR,
        f"tenant {tenant.name}",
        f"{name_of(tenant)} asks for {' and '.join(sorted(shown))}; budgets are claims on nodes[{tenant.node}], and "
        "the card comes from the claim alone",
        "take the lines out, in its owner's manifest too",
        kubectl_patch(name_of(tenant), patch, how="json"),
    )
