"""A tenant's own rules at admission: the budget on each new pod, and its framework told the number.

Rules are plain data that the webhook mounts as JSON and the policy engine is rendered from. They hold
for `admission` and `patch` tenants; what a `create` tenant needs is in its rendered pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from helpers.domain.admission import pods
from helpers.domain.admission.cap import HeldBy
from helpers.domain.admission.caps import Cap, apply_cap, framework_cap
from helpers.domain.admission.claims import put_claim
from helpers.domain.admission.decision import Pod
from helpers.domain.budget import budget_fields
from helpers.domain.errors import QuantityError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.names import budget_annotation, framework_cap_annotation
from helpers.domain.quantity import Quantity


class TenantRule(BaseModel):
    """What happens to a new pod of `namespace` that carries all of `pod_labels`.

    `limits` (`{resource: canonical quantity}`) go into the container called `container`; None leaves them to
    the workload. With a `claim_template` the budget is that claim, and `given_up` are the resources that it stands
    for: they are taken off. `cap` tells its framework; None where the tenant names none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str
    namespace: str
    pod_labels: dict[str, str]
    container: str
    limits: dict[str, str] | None
    claim_template: str = ""
    given_up: tuple[str, ...] = ()
    cap: Cap | None
    label_prefix: str

    @property
    def budget_key(self) -> str:
        """The annotation that says which budget was set."""
        return budget_annotation(self.label_prefix)

    @property
    def cap_key(self) -> str:
        """The annotation that says what the framework was told."""
        return framework_cap_annotation(self.label_prefix)

    @property
    def sets_budget(self) -> bool:
        """Whether the pod gets its budget here."""
        return self.limits is not None or bool(self.claim_template)

    def budget_text(self) -> str:
        """The budget's annotation, up to what it replaced."""
        if self.claim_template:
            return f"tenant {self.tenant}: claim template {self.claim_template}"
        amounts = ", ".join(f"{name}={amount}" for name, amount in (self.limits or {}).items())
        return f"tenant {self.tenant}: {amounts}"

    def budget_missing_text(self) -> str:
        """The budget's annotation on a pod without the container."""
        return f"tenant {self.tenant}: no budget set: {self.missing_text()}"

    def missing_text(self) -> str:
        """Why nothing is set in a pod that has no such container."""
        return f"the pod has no container {self.container}"


def tenant_rules(estate: Estate) -> tuple[TenantRule, ...]:
    """The rules of a valid estate, in its tenants' order."""
    return tuple(
        TenantRule(
            tenant=tenant.name,
            namespace=tenant.namespace,
            pod_labels=tenant.pod_labels,
            container=tenant.workload.container,
            **_budget_of(estate, tenant),
            cap=tenant_cap(estate.node(tenant.node), tenant),
            label_prefix=estate.label_prefix,
        )
        for tenant in estate.tenants
        if tenant.pod_labels is not None
    )


def _budget_of(estate: Estate, tenant: Tenant) -> dict[str, Any]:
    if tenant.apply != "admission":
        return {"limits": None}
    fields = budget_fields(estate, tenant)
    if not fields.claim_template:
        return {"limits": fields.limits()}
    # Whatever name a share has on this node: a share would choose a card, too.
    given_up = (estate.resource, *estate.node(tenant.node).gpu_resources())
    return {"limits": None, "claim_template": fields.claim_template, "given_up": given_up}


def tenant_cap(node: Node, tenant: Tenant) -> Cap | None:
    """What tells `tenant`'s framework its budget; None where it names none."""
    if tenant.framework is None:
        return None
    physical_mib = max(gpu.physical_mib for gpu in node.gpus if tenant.gpu_model in (None, gpu.model))
    return framework_cap(tenant.framework, tenant.budget_mib, physical_mib)


def tenant_container(tenant: Tenant) -> Mapping[str, Any] | None:
    """The container that gets the budget, as the estate's `pod` has it; None where the pod is not ours."""
    containers = (tenant.pod or {}).get("containers") or ()
    return next((item for item in containers if item.get("name") == tenant.workload.container), None)


def held_by(node: Node, tenant: Tenant) -> HeldBy:
    """What holds `tenant` to its budget besides the watchdog, as far as the estate shows.

    Pods of foreign workloads may set the framework's limit themselves; their annotation says so.
    """
    cap, container = tenant_cap(node, tenant), tenant_container(tenant)
    if cap is None or (container is not None and apply_cap(container, cap)[1] != cap.text_set()):
        return "scheduler only"
    return cap.held_by


def matches(rule: TenantRule, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a pod of `namespace` with `labels` is the rule's."""
    return namespace == rule.namespace and rule.pod_labels.items() <= labels.items()


def apply_tenant_rule(pod: Pod, rule: TenantRule) -> tuple[Pod, tuple[str, ...]]:
    """`pod` as the rule wants it, and what was done: the texts of its annotations.

    Applied to its own result it changes nothing.
    """
    changed = pods.copied(pod)
    containers = changed["spec"].get("containers") or []
    index = next((i for i, item in enumerate(containers) if item.get("name") == rule.container), None)
    texts: dict[str, str] = {}
    if rule.sets_budget:
        said = pods.annotations_of(changed).get(rule.budget_key, "")
        texts[rule.budget_key] = rule.budget_missing_text()
        if index is not None:
            changed["spec"], replaced = _put_budget(changed["spec"], index, rule)
            containers = changed["spec"]["containers"]
            texts[rule.budget_key] = _budget_said(rule, replaced, said)
    if rule.cap is not None:
        if index is None:
            texts[rule.cap_key] = rule.cap.text_not_set(rule.missing_text())
        else:
            containers[index], texts[rule.cap_key] = apply_cap(containers[index], rule.cap)
    changed["metadata"] = {**(changed.get("metadata") or {}), "annotations": {**pods.annotations_of(changed), **texts}}
    return changed, tuple(texts.values())


def _budget_said(rule: TenantRule, replaced: str, said: str) -> str:
    """The text names what was replaced, and stays when there is nothing more to replace."""
    text = rule.budget_text()
    if replaced:
        return f"{text} instead of {replaced}"
    return said if said.startswith(f"{text} instead of ") else text


def _put_budget(spec: dict[str, Any], index: int, rule: TenantRule) -> tuple[dict[str, Any], str]:
    if rule.claim_template:
        return put_claim(spec, index, rule.claim_template, rule.given_up)
    return spec, _put_limits(spec["containers"][index], rule.limits or {})


def _put_limits(container: dict[str, Any], wanted: dict[str, str]) -> str:
    """Sets `wanted` in place, and says what it replaced."""
    declared = {**pods.requests(container), **pods.limits(container)}
    replaced = []
    for name, amount in wanted.items():
        before = declared.get(name)
        if before is not None and not _same(before, amount):
            replaced.append(f"{name}={before}")
        pods.set_limit(container, name, amount)
    return ", ".join(replaced)


def _same(before: Any, amount: str) -> bool:
    try:
        return Quantity.parse(str(before)).value == Quantity.parse(amount).value
    except QuantityError:
        return False
