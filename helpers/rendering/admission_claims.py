"""A budget as a claim, for the policy engine: what `domain/admission/claims.py` does, in CEL."""

from __future__ import annotations

from helpers.domain.admission.tenant_rules import TenantRule
from helpers.domain.dra.claims import CLAIM
from helpers.rendering.admission_cel import literal
from helpers.rendering.admission_patches import add, remove

_POD_CLAIMS = "/spec/resourceClaims"


def budget_said(rule: TenantRule) -> dict[str, str]:
    """The text of the annotation, from `replaced`; it stays when there is nothing more to replace."""
    instead = literal(f"{rule.budget_text()} instead of ")
    return {
        "said": f'variables.annotations[?{literal(rule.budget_key)}].orValue("")',
        "budgetText": f"!variables.found ? {literal(rule.budget_missing_text())}\n"
        f': variables.replaced != "" ? {instead} + variables.replaced\n'
        f": variables.said.startsWith({instead}) ? variables.said : {literal(rule.budget_text())}",
    }


def claim_variables(rule: TenantRule) -> dict[str, str]:
    """The variables of a rule with a claim; none for another rule."""
    if not rule.claim_template:
        return {}
    declared = "variables.limits[?name].or(variables.requests[?name])"
    return {
        "names": literal(list(rule.given_up)),
        "limits": "variables.container.?resources.?limits.orValue({})",
        "requests": "variables.container.?resources.?requests.orValue({})",
        "replaced": "variables.names.filter(name, name in variables.limits || name in variables.requests)"
        f'.map(name, name + "=" + string({declared}.orValue(""))).join(", ")',
        "used": "variables.container.?resources.?claims.orValue([])",
        "claims": "object.spec.?resourceClaims.orValue([])",
        "places": "lists.range(variables.claims.size())"
        f".filter(index, variables.claims[index].name == {literal(CLAIM)})",
        **budget_said(rule),
    }


def claim_patches(rule: TenantRule) -> list[str]:
    """Takes off what the claim stands for, then puts the claim into the container and into the pod."""
    name = f'{{"name": {literal(CLAIM)}}}'
    reference = f'{{"name": {literal(CLAIM)}, "resourceClaimTemplateName": {literal(rule.claim_template)}}}'
    at_place = '"/spec/resourceClaims/" + string(variables.places[0])'
    put = f"[{remove(at_place)}, {add(at_place, reference)}]"
    resources, used = add(_resources(""), "{}"), add(_resources("/claims"), "[]")
    use = add(_resources("/claims/-"), name)
    claims, claim = add(literal(_POD_CLAIMS), "[]"), add(literal(f"{_POD_CLAIMS}/-"), reference)
    return [
        *(_taken_off(part) for part in ("limits", "requests")),
        f"variables.found && !has(variables.container.resources) ? [{resources}] : []",
        f"variables.found && variables.used.size() == 0 ? [{used}] : []",
        f"variables.found && !variables.used.exists(item, item.name == {literal(CLAIM)}) ? [{use}] : []",
        f"variables.found && variables.claims.size() == 0 ? [{claims}] : []",
        f"!variables.found ? [] : variables.places.size() == 0 ? [{claim}] : {put}",
    ]


def _taken_off(part: str) -> str:
    gone = remove(f"{_resources(f'/{part}/')} + jsonpatch.escapeKey(name)")
    return f"variables.found ? variables.names.filter(name, name in variables.{part}).map(name, {gone}) : []"


def _resources(below: str) -> str:
    return f'variables.path + "/resources{below}"'
