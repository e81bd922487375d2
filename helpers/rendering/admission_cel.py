"""The rules of `helpers.domain.admission` once more, in CEL, for the API server to run by itself.

Data of the estate enters as literals; everything else is text. What both engines say and do is held
equal by the case table in tests/cases/admission, which runs through both on a real API server.
Lists are `flatten`ed and walked with two variables, which Kubernetes has from 1.34 on.
"""

from __future__ import annotations

import json
import re
from string import Template
from typing import Any

from helpers.domain.admission import messages
from helpers.domain.admission.directories import INDICES
from helpers.domain.admission.messages import SECOND_NAME_PREFIX, VISIBLE_DEVICES
from helpers.domain.admission.settings import AdmissionSettings
from helpers.domain.admission.tenant_rules import TenantRule
from helpers.domain.dra.claims import CLAIM
from helpers.domain.quantity import canonical_count

Variables = list[dict[str, str]]


def literal(value: Any) -> str:
    """`value` (text, number, list or mapping) as a CEL literal: JSON is one, but for what it escapes as surrogates."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def said(template: Template, **expressions: str) -> str:
    """`template` as a CEL expression of type string: its text as literals, its `$names` as `expressions`."""
    parts = re.split(r"\$(\w+)", template.template)
    words = [expressions[part] if index % 2 else literal(part) for index, part in enumerate(parts)]
    return " + ".join(word for word in words if word != literal(""))


# `dyn`: the API server's type checker knows nothing below a container's resources, and would complain.
LIMITS = "dyn(c.resources).limits"
HAS_LIMITS = f"has(c.resources) && has({LIMITS})"


def some_container(holds: str) -> str:
    """Whether `holds`, said of `c`, is true of a container or an init container."""
    # Not one list of both: to the type checker the two have different types.
    inits = f"(has(object.spec.initContainers) && object.spec.initContainers.exists(c, {holds}))"
    return f"(object.spec.containers.exists(c, {holds}) || {inits})"


def has_annotation(settings: AdmissionSettings) -> str:
    """Whether the pod has the annotation."""
    return f"(has(object.metadata.annotations) && {literal(settings.annotation)} in object.metadata.annotations)"


def asks_for(resources: tuple[str, ...]) -> str:
    """Whether a container has one of `resources` among its limits."""
    return some_container(f"{HAS_LIMITS} && {literal(list(resources))}.exists(r, r in {LIMITS})")


def asks_for_a_gpu(settings: AdmissionSettings) -> str:
    """Whether the pod wants a card: by a resource that the device plugin offers, or by the annotation."""
    by_annotation = has_annotation(settings)
    if others := settings.other_set_names():
        entries = f"string(object.metadata.annotations[{literal(settings.annotation)}]).split(';')"
        by_annotation = f"({by_annotation} && {entries}.exists(e, !(e.trim() in {literal(others)})))"
    return f"{by_annotation} || {asks_for(settings.gpu_resources)}"


def concerned(settings: AdmissionSettings) -> str:
    """Whether a pod has anything to do with GPUs; of all other pods no rule is even asked."""
    return f"{has_annotation(settings)} || {asks_for((*settings.gpu_resources, settings.resource))}"


def asked_of_the_webhook(settings: AdmissionSettings) -> str:
    """The same, and pods of tenants that admission does something for."""
    return " || ".join([concerned(settings), *(_is_pod_of(rule) for rule in settings.tenants)])


def _is_pod_of(rule: TenantRule) -> str:
    labels = " && ".join(
        f"{literal(key)} in object.metadata.labels && object.metadata.labels[{literal(key)}] == {literal(value)}"
        for key, value in sorted(rule.pod_labels.items())
    )
    return f"(request.namespace == {literal(rule.namespace)} && has(object.metadata.labels) && {labels})"


def directory_variables(settings: AdmissionSettings) -> Variables:
    """What the annotation asks for, step by step; `wished` is false where there is no annotation."""
    devices = [[d.path, d.volume, d.directory_set, d.index] for d in settings.devices]
    named = " + ".join(f"({_selects(node.selector)} ? [{literal(node.indices())}] : [])" for node in settings.nodes)
    return _variables(
        wished=has_annotation(settings),
        text=f"variables.wished ? string(object.metadata.annotations[{literal(settings.annotation)}]) : ''",
        entries="variables.text.split(';').map(e, e.trim())",
        devices=literal(devices),
        sets=literal(settings.set_names()),
        card_sets=literal(settings.card_set_names()),
        readable=(
            "variables.entries.all(e, e in variables.sets || (e.contains(':') && "
            "e.substring(0, e.indexOf(':')) in variables.card_sets && "
            f"e.substring(e.indexOf(':') + 1).matches({literal(f'^{INDICES}$')})))"
        ),
        selector="has(object.spec.nodeSelector) ? object.spec.nodeSelector : {}",
        named_nodes=named,
        cards="size(variables.named_nodes) == 1 ? variables.named_nodes[0] : ['0']",
        known_cards=f"size(variables.named_nodes) == 1 ? variables.named_nodes[0] : {literal(settings.all_indices())}",
        cards_there=(
            "!variables.readable || variables.entries.all(e, !e.contains(':') || "
            "e.substring(e.indexOf(':') + 1).split(',').all(i, i in variables.known_cards))"
        ),
        asked_sets="variables.entries.map(e, e.contains(':') ? e.substring(0, e.indexOf(':')) : e)",
        wanted=(
            "!variables.wished || !variables.readable ? [] : variables.devices.filter(d, variables.entries.exists(e, "
            "e == d[2] ? (d[3] == '' || d[3] in variables.cards) : "
            "(e.startsWith(d[2] + ':') && (d[3] == '' || "
            "d[3] in e.substring(e.indexOf(':') + 1).split(',')))))"
        ),
        volumes="has(object.spec.volumes) ? object.spec.volumes : []",
        missing=(
            "variables.wanted.filter(d, !variables.volumes.exists(v, has(v.hostPath) && v.hostPath.path == d[0]))"
        ),
        taken=(
            "variables.missing.filter(d, variables.volumes.exists(v, v.name == d[1]) && "
            f"variables.volumes.exists(v, v.name == {literal(SECOND_NAME_PREFIX)} + d[1])).map(d, d[1])"
        ),
        level=(
            "has(namespaceObject.metadata.labels) && 'pod-security.kubernetes.io/enforce' in "
            "namespaceObject.metadata.labels ? "
            "string(namespaceObject.metadata.labels['pod-security.kubernetes.io/enforce']) : 'privileged'"
        ),
    )


def directory_mutation(settings: AdmissionSettings) -> str:
    """The JSON patch: volumes, then each container's mounts, then the runtime class."""
    second = f"{literal(SECOND_NAME_PREFIX)} + d[1]"
    name = (
        "(variables.volumes.exists(v, has(v.hostPath) && v.hostPath.path == d[0]) ? "
        "variables.volumes.filter(v, has(v.hostPath) && v.hostPath.path == d[0])[0].name : "
        f"(variables.volumes.exists(v, v.name == d[1]) ? {second} : d[1]))"
    )
    volumes = (
        "(has(object.spec.volumes) || size(variables.missing) == 0 ? [] : "
        '[JSONPatch{op: "add", path: "/spec/volumes", value: []}]) + '
        'variables.missing.map(d, JSONPatch{op: "add", path: "/spec/volumes/-", value: '
        f"Object.spec.volumes{{name: {name}, hostPath: Object.spec.volumes.hostPath{{path: d[0]}}}}}})"
    )
    runtime = (
        f"(variables.asked_sets.exists(s, s in {literal(list(settings.runtime_class_sets))}) && "
        "!has(object.spec.runtimeClassName) ? "
        f'[JSONPatch{{op: "add", path: "/spec/runtimeClassName", value: {literal(settings.runtime_class)}}}] : [])'
    )
    mounts = " + ".join(_mounts(block, name) for block in ("containers", "initContainers"))
    allowed = (
        "variables.readable && variables.cards_there && variables.level == 'privileged' && size(variables.taken) == 0"
    )
    return f"!({allowed}) ? [] : {volumes} + {mounts} + {runtime}"


def _mounts(block: str, name: str) -> str:
    lacking = "variables.wanted.filter(d, !has(c.volumeMounts) || !c.volumeMounts.exists(m, m.mountPath == d[0]))"
    return (
        f"(has(object.spec.{block}) ? object.spec.{block} : []).transformList(i, c, "
        f"(has(c.volumeMounts) || size({lacking}) == 0 ? [] : "
        f'[JSONPatch{{op: "add", path: "/spec/{block}/" + string(i) + "/volumeMounts", value: []}}]) + '
        f'{lacking}.map(d, JSONPatch{{op: "add", path: "/spec/{block}/" + string(i) + "/volumeMounts/-", value: '
        f"Object.spec.{block}.volumeMounts{{name: {name}, mountPath: d[0]}}}})).flatten()"
    )


def budget_variables(settings: AdmissionSettings) -> Variables:
    """What the pod declares, as the scheduler counts it, and whether it had to."""
    resource = literal(settings.resource)
    has_it = f"{HAS_LIMITS} && {resource} in {LIMITS}"
    value = f"quantity(string({LIMITS}[{resource}]))"
    amount = f"({has_it} && {value}.isInteger() ? {value}.asInteger() : 0)"
    sidecar = "has(c.restartPolicy) && c.restartPolicy == 'Always'"
    inits = "(has(object.spec.initContainers) ? object.spec.initContainers : [])"
    return _variables(
        together=(
            f"object.spec.containers.map(c, {amount}).sum() + {inits}.filter(c, {sidecar}).map(c, {amount}).sum()"
        ),
        alone=f"([0] + {inits}.filter(c, !({sidecar})).map(c, {amount})).max()",
        declared_mib="variables.together > variables.alone ? variables.together : variables.alone",
        lacking=f"({asks_for_a_gpu(settings)}) && variables.declared_mib == 0{_without_claim(settings)}",
    )


def _without_claim(settings: AdmissionSettings) -> str:
    if not settings.claims:
        return ""
    return f" && !(has(object.spec.resourceClaims) && object.spec.resourceClaims.exists(c, c.name == {literal(CLAIM)}))"


def default_budget_variables(settings: AdmissionSettings) -> Variables:
    """The same, and `first`: the place of the first container that asks for a GPU, or of the first at all."""
    asks = f"{HAS_LIMITS} && {literal(list(settings.gpu_resources))}.exists(r, r in {LIMITS})"
    first = f"(object.spec.containers.transformList(i, c, {asks}, i) + [0])[0]"
    return budget_variables(settings) + _variables(first=first)


def default_budget_condition(settings: AdmissionSettings) -> str:
    """Which pods may get a default: those of a namespace that has one, unless their tenant has a budget of its own."""
    budgeted = [rule for rule in settings.tenants if rule.sets_budget and rule.namespace in settings.default_budgets]
    others = [f"!{_is_pod_of(rule)}" for rule in budgeted]
    return " && ".join([f"request.namespace in {literal(sorted(settings.default_budgets))}", *others])


def default_budget_mutation(settings: AdmissionSettings) -> str:
    """The JSON patch that puts the namespace's default into the first container that asks for a GPU."""
    defaults = {name: canonical_count(mib) for name, mib in settings.default_budgets.items()}
    key = literal(settings.resource)
    value = f"{literal(defaults)}[request.namespace]"
    container = "object.spec.containers[variables.first]"
    here = '"/spec/containers/" + string(variables.first) + "/resources'
    return (
        f"!variables.lacking ? [] : (has({container}.resources) && has(dyn({container}.resources).limits) ? "
        f'[JSONPatch{{op: "add", path: {here}/limits/" + jsonpatch.escapeKey({key}), value: {value}}}] : '
        f"(has({container}.resources) ? [] : "
        f'[JSONPatch{{op: "add", path: {here}", value: Object.spec.containers.resources{{}}}}]) + '
        f'[JSONPatch{{op: "add", path: {here}/limits", value: {{{key}: {value}}}}}]) + '
        f"(has({container}.resources) && has(dyn({container}.resources).requests) && "
        f"{key} in dyn({container}.resources).requests ? "
        f'[JSONPatch{{op: "add", path: {here}/requests/" + jsonpatch.escapeKey({key}), value: {value}}}] : [])'
    )


def denials(settings: AdmissionSettings) -> list[dict[str, str]]:
    """Validations that deny: each an expression that must hold, and what is said where it does not."""
    wished = "!variables.wished || !variables.readable"
    text = "variables.text"
    rules = [
        ("!variables.wished || variables.readable", said(messages.not_allowed(settings), text=text)),
        (
            f"{wished} || variables.cards_there",
            said(messages.no_such_card(settings), text=text, cards="variables.known_cards.join(', ')"),
        ),
        (
            f"{wished} || variables.level == 'privileged'",
            said(messages.pod_security(settings), namespace="request.namespace", level="variables.level"),
        ),
        ("size(variables.taken) == 0", said(messages.names_taken(settings), names="variables.taken.join(', ')")),
    ]
    if settings.required_budget in ("deny", "default"):
        rules.append(("!variables.lacking", said(messages.missing_budget(settings), namespace="request.namespace")))
    declared = said(messages.above_card(settings), declared_mib="string(variables.declared_mib)")
    rules.append((f"variables.declared_mib <= {settings.largest_card_mib}", declared))
    return _validations(rules)


def warnings(settings: AdmissionSettings) -> list[dict[str, str]]:
    """Validations that only warn."""
    runtime_sets = literal(list(settings.runtime_class_sets))
    visible = some_container(f"has(c.env) && c.env.exists(e, e.name == {literal(VISIBLE_DEVICES)})")
    class_name = literal(settings.runtime_class)
    access = (
        f"(has(object.spec.runtimeClassName) && object.spec.runtimeClassName == {class_name} && "
        f"({visible} || {asks_for(settings.gpu_resources)}))"
    )
    privileged = some_container(
        "has(c.securityContext) && has(c.securityContext.privileged) && c.securityContext.privileged"
    )
    wished = "!variables.wished || !variables.readable"
    placed = (
        "size(variables.named_nodes) == 1 || !variables.entries.exists(e, e in variables.card_sets && "
        "!variables.entries.exists(o, o.startsWith(e + ':')))"
    )
    with_class = f"variables.asked_sets.exists(s, s in {runtime_sets})"
    all_with_class = f"variables.asked_sets.all(s, s in {runtime_sets})"
    rules = [
        (f"{wished} || !{with_class} || {access}", said(messages.no_access(settings))),
        (f"{wished} || {all_with_class} || {privileged}", said(messages.not_privileged(settings))),
    ]
    if len(settings.all_indices()) > 1:
        rules.insert(0, (f"{wished} || {placed}", said(messages.first_card(settings), text="variables.text")))
    if settings.required_budget == "warn":
        rules.append(("!variables.lacking", said(messages.missing_budget(settings))))
    rules += [_one_share(name, settings) for name in settings.shared_resources]
    return _validations(rules)


def _one_share(name: str, settings: AdmissionSettings) -> tuple[str, str]:
    key = literal(name)
    many = some_container(
        f"{HAS_LIMITS} && {key} in {LIMITS} && quantity(string({LIMITS}[{key}])).isGreaterThan(quantity('1'))"
    )
    return (f"!{many}", said(messages.one_share(settings, name)))


def _selects(selector: dict[str, str]) -> str:
    return " && ".join(
        f"({literal(key)} in variables.selector && variables.selector[{literal(key)}] == {literal(value)})"
        for key, value in sorted(selector.items())
    )


def _variables(**expressions: str) -> Variables:
    return [{"name": name, "expression": expression} for name, expression in expressions.items()]


def _validations(rules: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"expression": expression, "messageExpression": message} for expression, message in rules]
