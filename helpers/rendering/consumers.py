"""Wave 1: the gate, and behind it every tenant with what it needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.budget import budget_fields, workload_identity
from helpers.domain.capacity import capacity_settings
from helpers.domain.demand_gates.rules import first_replicas
from helpers.domain.dra.claims import claim_requests, claim_template_name
from helpers.domain.dra.slice_document import API_VERSION as CLAIM_API_VERSION
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenant_labels import rendered_labels
from helpers.domain.estate.tenants import Tenant
from helpers.domain.quantity import canonical_count
from helpers.domain.rights import policy_rules
from helpers.domain.watchdog.rights import WATCHDOG_SERVICE_ACCOUNT, watchdog_rights
from helpers.rendering.objects import RenderedObject, Step, address_of
from helpers.rendering.pod import pod_annotations, tenant_pod
from helpers.rendering.templates import render_template

GATE = "gate"
_SCALABLE = ("Deployment", "StatefulSet")


def consumer_objects(estate: Estate) -> tuple[RenderedObject, ...]:
    """PriorityClasses, namespaces, quotas, the workloads of `create` tenants, and who may exec into tenants."""
    shared = {"gate": GATE, "labels": names.MANAGED_BY}
    namespaces = {name: address_of("namespace", name) for name in own_namespaces(estate)}
    objects = [
        *render_template(
            1,
            "consumers/priority-classes.yaml.j2",
            **shared,
            priority_classes=[(address_of("priority-class", item.name), item) for item in estate.priority_classes],
        ),
        *render_template(1, "consumers/namespaces.yaml.j2", **shared, namespaces=namespaces),
        *render_template(
            1,
            "consumers/quotas.yaml.j2",
            **shared,
            resource=estate.resource,
            quotas=[
                (
                    address_of("quota", quota.namespace),
                    quota,
                    canonical_count(quota.budget_mib),
                    _after(namespaces, quota),
                )
                for quota in estate.quotas
            ],
        ),
    ]
    objects += _claim_templates(estate, shared, namespaces)
    return (*objects, *_workloads(estate, shared, namespaces), *_exec_rights(estate, shared, namespaces))


def own_namespaces(estate: Estate) -> list[str]:
    """The namespaces that this wave renders.

    One that holds only other people's workloads is other people's: it stands already, and the
    provider would take its fields over from whoever applied it.
    """
    return sorted({tenant.namespace for tenant in estate.tenants if tenant.apply == "create"})


def consumer_steps(estate: Estate, objects: Sequence[RenderedObject]) -> tuple[Step, ...]:
    """The gate first, then budgets that are patched into foreign workloads, and the replicas of our own."""
    steps = [step for tenant in estate.tenants for step in _tenant_steps(estate, tenant)]
    return (_gate(estate, objects, steps), *steps)


def _gate(estate: Estate, objects: Sequence[RenderedObject], steps: Sequence[Step]) -> Step:
    """Its triggers change exactly when a consumer would, so it runs then and a second plan is empty."""
    behind = {
        "objects": {item.address: item.manifest for item in objects},
        "steps": {step.address: [step.arguments, step.on, dict(step.triggers)] for step in steps},
    }
    text = json.dumps(behind, sort_keys=True, separators=(",", ":"))
    return Step(
        wave=1,
        component="consumers",
        address=GATE,
        arguments=("verify",),
        triggers={
            "capacity": capacity_settings(estate).to_json(),
            "consumers": hashlib.sha256(text.encode()).hexdigest(),
            "wait_seconds": str(estate.gate.timeout_seconds),
        },
        on="create",
    )


def _after(namespaces: dict[str, str], item: Any) -> list[str]:
    return [namespaces.get(item.namespace, GATE)]


def claim_template_address(tenant: Tenant) -> str:
    """The address of the tenant's ResourceClaimTemplate."""
    return address_of("claim-template", tenant.name)


def _claim_templates(estate: Estate, shared: dict[str, Any], namespaces: dict[str, str]) -> Iterator[RenderedObject]:
    for tenant in estate.tenants:
        if estate.is_claimed(tenant):
            yield from render_template(
                1,
                "tenants/claim-template.yaml.j2",
                address=claim_template_address(tenant),
                after=_after(namespaces, tenant),
                api_version=CLAIM_API_VERSION,
                name=claim_template_name(estate, tenant),
                namespace=tenant.namespace,
                labels={**shared["labels"], f"{estate.label_prefix}/tenant": tenant.name},
                requests=claim_requests(estate, tenant),
            )


def _workloads(estate: Estate, shared: dict[str, Any], namespaces: dict[str, str]) -> Iterator[RenderedObject]:
    for tenant in estate.tenants:
        if tenant.apply == "create":
            yield from render_template(
                1,
                "tenants/workload.yaml.j2",
                tenant=tenant,
                address=address_of("tenant", tenant.name),
                after=_workload_after(estate, tenant, namespaces),
                labels=rendered_labels(estate.label_prefix, tenant),
                selector={**shared["labels"], "app.kubernetes.io/name": tenant.name},
                strategy=_strategy(tenant),
                annotations=pod_annotations(estate, tenant),
                pod=tenant_pod(estate, tenant),
            )


def _exec_rights(estate: Estate, shared: dict[str, Any], namespaces: dict[str, str]) -> Iterator[RenderedObject]:
    """The watchdog's Roles for release hooks that are commands."""
    rules = policy_rules(watchdog_rights(allow_exec=estate.watchdog.allow_exec), "tenants")
    hooks = ((tenant.namespace, tenant.watchdog.release_hook) for tenant in estate.tenants)
    asked = sorted({namespace for namespace, hook in hooks if hook is not None and hook.command}) if rules else []
    yield from render_template(
        1,
        "watchdog/exec.yaml.j2",
        **shared,
        estate=estate,
        service_account=WATCHDOG_SERVICE_ACCOUNT,
        rules=rules,
        namespaces=[
            (name, address_of("exec-role", name), address_of("exec-binding", name), [namespaces.get(name, GATE)])
            for name in asked
        ],
    )


def _workload_after(estate: Estate, tenant: Tenant, namespaces: dict[str, str]) -> list[str]:
    priority = [address_of("priority-class", tenant.priority)] if tenant.priority else []
    return [namespaces[tenant.namespace], *priority, *_claim_addresses(estate, tenant)]


def _claim_addresses(estate: Estate, tenant: Tenant) -> tuple[str, ...]:
    return (claim_template_address(tenant),) if estate.is_claimed(tenant) else ()


def _strategy(tenant: Tenant) -> dict[str, Any] | None:
    strategy = tenant.effective_strategy()
    return None if strategy is None else strategy.model_dump(mode="json", exclude_none=True)


def _tenant_steps(estate: Estate, tenant: Tenant) -> Iterator[Step]:
    identity = workload_identity(tenant).to_triggers()
    if tenant.apply == "patch":
        # Two steps, so that a changed number is set in place and the fields are only given back when
        # the tenant goes: a step that is replaced runs its destroy side as well.
        unset = address_of("unset-budget", tenant.name)
        yield Step(1, "tenants", unset, ("budget", "unset"), identity, "destroy", (GATE,))
        numbers = budget_fields(estate, tenant).to_triggers()
        after = (unset, *_claim_addresses(estate, tenant))
        yield Step(1, "tenants", address_of("budget", tenant.name), ("budget", "set"), numbers, "create", after)
    elif tenant.apply == "create" and tenant.workload.kind in _SCALABLE:
        count = str(first_replicas(estate, tenant))
        replicas = {**identity, "replicas": count, "label_prefix": estate.label_prefix}
        stands = (address_of("tenant", tenant.name),)
        yield Step(1, "tenants", address_of("replicas", tenant.name), ("replicas", "set"), replicas, "create", stands)
