"""A budget as a claim, for the policy engine: what `domain/admission/claims.py` does, in CEL."""

from __future__ import annotations

import itertools

from helpers.domain.admission.pods import CONTAINER_LISTS
from helpers.domain.admission.tenant_rules import TenantRule
from helpers.domain.dra.claims import CLAIM
from helpers.domain.json_pointer import escaped
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
    return {
        "names": literal(list(rule.given_up)),
        **{block: f"object.spec.?{block}.orValue([])" for block in CONTAINER_LISTS},
        "others": " + ".join(f"variables.{block}" for block in CONTAINER_LISTS),
        "gone": f"[variables.container].map(one, {_declared('')})"
        f" + variables.others.filter(one, one.name != {literal(rule.container)})"
        f""".map(one, {_declared(' + " in " + one.name')})""",
        "replaced": 'variables.gone.filter(text, text != "").join(", ")',
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
        *(_taken_off(*place) for place in itertools.product(CONTAINER_LISTS, ("limits", "requests"), rule.given_up)),
        f"variables.found && !has(variables.container.resources) ? [{resources}] : []",
        f"variables.found && variables.used.size() == 0 ? [{used}] : []",
        f"variables.found && !variables.used.exists(item, item.name == {literal(CLAIM)}) ? [{use}] : []",
        f"variables.found && variables.claims.size() == 0 ? [{claims}] : []",
        f"!variables.found ? [] : variables.places.size() == 0 ? [{claim}] : {put}",
    ]


def _declared(behind: str) -> str:
    """Of container `one`: what it has of what is given up, `name=amount, …`, each with `behind` after it."""
    amount = "one.?resources.?limits[?name].or(one.?resources.?requests[?name])"
    text = f'name + "=" + string({amount}.value()){behind}'
    return f'variables.names.filter(name, {amount}.hasValue()).map(name, {text}).join(", ")'


def _taken_off(block: str, part: str, name: str) -> str:
    """Off every container of `block`: a share in a sidecar would choose a second card."""
    holding = f"variables.{block}[index].?resources.?{part}[?{literal(name)}].hasValue()"
    path = f'"/spec/{block}/" + string(index) + {literal(f"/resources/{part}/{escaped(name)}")}'
    places = f"lists.range(variables.{block}.size()).filter(index, {holding})"
    return f"variables.found ? {places}.map(index, {remove(path)}) : []"


def _resources(below: str) -> str:
    return f'variables.path + "/resources{below}"'
