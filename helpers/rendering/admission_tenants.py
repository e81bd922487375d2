"""A tenant's rule for the policy engine: the rule's data in CEL that does what `domain/admission` does.

Each variable below is one function of `cap.py` or `tenant_rules.py`, under the same name where it has
one. The table in tests/cases/tenant_admission runs through both, and the pods are the same to the byte.
Patches add to lists and replace in place, so that lists keep their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from helpers.domain import names
from helpers.domain.admission.cap import SHELL_WORD, Cap, Obstacle
from helpers.domain.admission.tenant_rules import TenantRule, tenant_rules
from helpers.domain.estate.model import Estate
from helpers.domain.json_pointer import escaped
from helpers.rendering.admission_cel import literal
from helpers.rendering.admission_claims import budget_said, claim_patches, claim_variables
from helpers.rendering.admission_patches import add
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template

Variables = dict[str, str]


def tenant_policy_objects(estate: Estate) -> Iterator[RenderedObject]:
    """One MutatingAdmissionPolicy and its binding for each tenant's rule."""
    for rule in tenant_rules(estate):
        yield from render_template(
            0,
            "admission/tenant-policies.yaml.j2",
            address=address_of("admission-tenant", rule.tenant),
            binding_address=address_of("admission-binding-tenant", rule.tenant),
            name=f"gpumem-tenant-{rule.tenant}",
            labels={**names.MANAGED_BY, f"{estate.label_prefix}/tenant": rule.tenant},
            rule=rule.model_dump(include={"namespace", "pod_labels"}),
            variables=list(rule_variables(rule).items()),
            patch=rule_patch(rule),
        )


def rule_variables(rule: TenantRule) -> Variables:
    """The policy's variables, in the order in which they build on each other."""
    name = literal(rule.container)
    common = {
        "annotations": "object.metadata.?annotations.orValue({})",
        "indices": "lists.range(object.spec.containers.size())"
        f".filter(index, object.spec.containers[index].name == {name})",
        "found": "variables.indices.size() > 0",
        "container": "variables.found ? object.spec.containers[variables.indices[0]] : dyn({})",
        "path": 'variables.found ? "/spec/containers/" + string(variables.indices[0]) : ""',
    }
    budget = _budget_variables(rule, rule.limits) if rule.limits is not None else claim_variables(rule)
    cap = _cap_variables(rule, rule.cap) if rule.cap is not None else {}
    return _used({**common, **budget, **cap}, rule_patch(rule))


def _used(variables: Variables, patch: str) -> Variables:
    """Only what the patch comes to use: a rule that needs no command line does not look at one."""
    kept, users = [], patch
    for name, expression in reversed(variables.items()):
        if re.search(rf"variables\.{name}\b", users):
            kept.append(name)
            users += expression
    return {name: variables[name] for name in reversed(kept)}


def rule_patch(rule: TenantRule) -> str:
    """The JSON patch that the variables come to."""
    texts = {}
    patches = [f"has(object.metadata.annotations) ? [] : [{add(literal('/metadata/annotations'), '{}')}]"]
    if rule.sets_budget:
        patches += claim_patches(rule) if rule.claim_template else _limits_patches()
        texts[rule.budget_key] = "variables.budgetText"
    if rule.cap is not None:
        patches += _cap_patches(rule.cap)
        texts[rule.cap_key] = "variables.capText"
    for key, text in texts.items():
        patches.append(f"[{add(literal(f'/metadata/annotations/{escaped(key)}'), text)}]")
    return "\n+ ".join(f"({patch})" for patch in patches)


def _budget_variables(rule: TenantRule, wanted: dict[str, str]) -> Variables:
    return {
        "names": literal(list(wanted)),
        "wanted": literal(wanted),
        "limits": "variables.container.?resources.?limits.orValue({})",
        "requests": "variables.container.?resources.?requests.orValue({})",
        "before": "variables.names.transformMapEntry(i, name, {name: "
        "variables.limits[?name].or(variables.requests[?name]).orValue(variables.wanted[name])})",
        "replaced": "variables.names.filter(name, "
        "quantity(variables.before[name]).compareTo(quantity(variables.wanted[name])) != 0)"
        '.map(name, name + "=" + variables.before[name]).join(", ")',
        **budget_said(rule),
    }


def _limits_patches() -> list[str]:
    resources = add('variables.path + "/resources"', "{}")
    limits = add('variables.path + "/resources/limits"', "{}")
    limit = add('variables.path + "/resources/limits/" + jsonpatch.escapeKey(name)', "variables.wanted[name]")
    request = add('variables.path + "/resources/requests/" + jsonpatch.escapeKey(name)', "variables.wanted[name]")
    return [
        f"variables.found && !has(variables.container.resources) ? [{resources}] : []",
        f"variables.found && variables.limits.size() == 0 ? [{limits}] : []",
        f"variables.found ? variables.names.map(name, {limit}) : []",
        f"variables.found ? variables.names.filter(name, name in variables.requests).map(name, {request}) : []",
    ]


def _cap_variables(rule: TenantRule, cap: Cap) -> Variables:
    obstacles = cap.obstacles()
    blocked = "".join(f"{_STANDS[obstacle](cap)} ? {literal(cap.text_of(obstacle))}\n: " for obstacle in obstacles)
    return {
        **_container_variables(cap),
        "isSet": _is_set(cap),
        "blocked": f'{blocked}""',
        "changed": 'variables.found && !variables.isSet && variables.blocked == ""',
        "capText": f"!variables.found ? {literal(cap.text_not_set(rule.missing_text()))}\n"
        f': variables.isSet || variables.blocked == "" ? {literal(cap.text_set())} : variables.blocked',
    }


def _container_variables(cap: Cap) -> Variables:
    """What the container has, and what the image adds to it where the estate tells so."""
    return {
        "env": "variables.container.?env.orValue([])",
        "ours": literal([variable.model_dump() for variable in cap.env]),
        "missing": "variables.ours.filter(one, !variables.env.exists(item, item == one))",
        "ownCommand": "variables.container.?command.orValue([])",
        "ownArgs": "variables.container.?args.orValue([])",
        "command": f"variables.ownCommand.size() > 0 ? variables.ownCommand : {literal(cap.entrypoint)}",
        "args": f"variables.ownArgs.size() + variables.ownCommand.size() > 0 ? variables.ownArgs : {literal(cap.cmd)}",
        "line": "variables.command + variables.args",
        "wrapper": literal(cap.wrapper),
    }


def _is_set(cap: Cap) -> str:
    if cap.kind == "env":
        return f"variables.missing.size() == 0 && !({_env_set(cap)})"
    if cap.kind == "argument":
        return f"{literal(cap.argument)} in variables.line && !({_flag_set(cap)})"
    if cap.kind == "wrapper":
        return "variables.ownCommand.size() >= 4 && variables.ownCommand.slice(0, 4) == variables.wrapper"
    return "true"


def _cap_patches(cap: Cap) -> list[str]:
    if cap.kind == "env":
        first = add('variables.path + "/env"', "[]")
        each = add('variables.path + "/env/-"', "one")
        return [
            f"variables.changed && variables.env.size() == 0 ? [{first}] : []",
            f"variables.changed ? variables.missing.map(one, {each}) : []",
        ]
    if cap.kind == "argument":
        added = add('variables.path + "/args"', f"variables.args + {literal([cap.argument])}")
        return [f"variables.changed ? [{added}] : []"]
    if cap.kind == "wrapper":
        command = add('variables.path + "/command"', "variables.wrapper + variables.command")
        args = add('variables.path + "/args"', "variables.args")
        return [
            f"variables.changed ? [{command}] : []",
            f"variables.changed && variables.args.size() > 0 ? [{args}] : []",
        ]
    return []


def _env_set(cap: Cap) -> str:
    return f"variables.env.exists(item, item.name in {literal(cap.unless_env)} && !(item in variables.ours))"


def _flag_set(cap: Cap) -> str:
    flag = 'word.split("=")[0].replace("_", "-")'
    known = [f"{flag}.startsWith({literal(stem)})" for stem in cap.flag_stems()]
    known += [f"{flag} in {literal(cap.exact_flags())}"] if cap.exact_flags() else []
    return f"variables.line.exists(word, word != {literal(cap.argument)} && ({' || '.join(known) or 'false'}))"


def _no_command_line(cap: Cap) -> str:
    return "variables.command.size() == 0" if cap.kind == "wrapper" else "variables.line.size() == 0"


_STANDS: dict[Obstacle, Callable[[Cap], str]] = {
    "env set": _env_set,
    "env hidden": lambda _cap: "variables.container.?envFrom.orValue([]).size() > 0",
    "flag set": _flag_set,
    "shell": lambda _cap: f"variables.line.exists(word, word.matches({literal(f'^({SHELL_WORD})$')}))",
    "no command line": _no_command_line,
}
