"""All rules on all plans."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from helpers.domain.plan_policy.findings import Finding, PolicyReport
from helpers.domain.plan_policy.object_rules import object_faults, trigger_faults
from helpers.domain.plan_policy.order_rules import (
    advertised_covers_seated,
    capacity_before_consumers,
    consumers_behind_gate,
)
from helpers.domain.plan_policy.plan import MANIFEST_TYPE, STEP_TYPE, Change, Plan

PROVIDERS = tuple(
    f"{registry}/{name}"
    for registry in ("registry.terraform.io", "registry.opentofu.org")
    for name in ("alekc/kubectl", "hashicorp/null")
)
# What ends with the object: what runs, what is stored, and every object of a kind.
PROTECTED_KINDS = (
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "Job",
    "Namespace",
    "PersistentVolumeClaim",
    "Pod",
    "ReplicaSet",
    "StatefulSet",
)
# The step whose end takes the advertised number from the nodes. A step that goes is in no configuration, so its
# arguments are unknown and its address has to do.
CAPACITY_RELEASE_ADDRESS = "null_resource.capacity-release"


def check_plans(plans: Sequence[Plan], allow_delete: Collection[str] = ()) -> PolicyReport:
    """Every finding of every rule, by plan, rule and address.

    Args:
        plans: In the order in which they will be applied.
        allow_delete: Addresses that may go.
    """
    findings = [*capacity_before_consumers(plans)]
    for plan in plans:
        findings += consumers_behind_gate(plan)
        findings += advertised_covers_seated(plan)
        findings += _deletions(plan, allow_delete)
        findings += _providers(plan)
        for change in plan.changes:
            if change.after is not None:
                findings += _resource(plan.name, change)
    position = {plan.name: index for index, plan in enumerate(plans)}
    gone = {change.address for plan in plans for change in plan.changes if change.goes}
    return PolicyReport(
        tuple(sorted(set(findings), key=lambda one: (position[one.plan], one))),
        tuple(sorted(set(allow_delete) - gone)),
    )


def _resource(plan: str, change: Change) -> Iterator[Finding]:
    if change.unreadable:
        yield Finding(plan, "plan-readable", change.address, "", change.unreadable)
    faults = object_faults(change.manifest) if change.manifest is not None else []
    if change.type == STEP_TYPE:
        faults += trigger_faults(change.triggers())
    for rule, place, value in faults:
        yield Finding(plan, rule, change.address, place, value)


def _deletions(plan: Plan, allow_delete: Collection[str]) -> Iterator[Finding]:
    for change in plan.changes:
        if change.goes and change.address not in allow_delete and (kind := _protected(change)):
            said = f"{kind} is {'made anew' if change.is_made else 'deleted'}"
            yield Finding(plan.name, "no-silent-deletion", change.address, "", said)


def _protected(change: Change) -> str:
    """What goes with the resource; empty where nothing of weight does."""
    if change.address == CAPACITY_RELEASE_ADDRESS:
        return "the advertised capacity"
    before = change.before or {}
    # With apply_only, Terraform forgets the object and the cluster keeps it.
    if change.type != MANIFEST_TYPE or before.get("apply_only") is True:
        return ""
    kind = str(before.get("kind") or "an object of unknown kind")
    return kind if kind in PROTECTED_KINDS or not before.get("kind") else ""


def _providers(plan: Plan) -> Iterator[Finding]:
    rule = "known-providers"
    for name in plan.providers:
        if name not in PROVIDERS:
            yield Finding(plan.name, rule, f"provider.{name}", "", name)
    for change in plan.changes:
        if change.provider not in PROVIDERS:
            yield Finding(plan.name, rule, change.address, "", change.provider)
