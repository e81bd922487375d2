"""Wave 2: what works on top of cards and tenants: the coordinator, its rights over gated tenants, ScaledObjects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.demand_gates.rights import gate_rights
from helpers.domain.estate.coordinator import SecretKey
from helpers.domain.estate.model import Estate
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.domain.leases.rights import holder_rights, serving_rights
from helpers.domain.leases.settings import LeaseSettings
from helpers.domain.rights import policy_rules
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.scaled_objects import scaled_objects
from helpers.rendering.templates import render_template


def platform_objects(estate: Estate) -> Iterator[RenderedObject]:
    """The coordinator and its rights, where the estate declares one; else nothing."""
    settings = coordinator_settings(estate)
    if settings is None:
        return
    document, rights, leases = settings.to_json(), coordinator_rights(settings), settings.leases
    serving = serving_rights() if leases is not None else ()
    context = {
        "labels": names.MANAGED_BY,
        "label_prefix": estate.label_prefix,
        "namespace": GPU_SYSTEM_NAMESPACE,
        "name": names.COORDINATOR_COMPONENT,
        "config_map": names.COORDINATOR_CONFIG_MAP,
        "namespace_rules": policy_rules(rights, "namespace"),
        "cluster_rules": policy_rules((*rights, *serving), "cluster"),
        "tenant_rules": policy_rules(rights, "tenants"),
        "tenant_namespaces": [
            (name, address_of("coordinator-tenant-role", name), address_of("coordinator-tenant-binding", name))
            for name in sorted({rule.namespace for rule in settings.hooks})
        ],
        "settings_json": document,
        "settings_sha256": hashlib.sha256(document.encode()).hexdigest(),
        "image": estate.image.reference(),
        "arguments": coordinator_arguments(leases),
        "namespace_variable": names.ENV_NAMESPACE,
        "secrets": _secrets(settings),
        "port": names.COORDINATOR_PORT,
        "leases_port": names.LEASES_PORT if leases is not None else None,
        "tls_secret": leases.tls_secret if leases is not None else None,
        "tls_path": names.LEASE_TLS_PATH,
    }
    yield from render_template(2, "coordinator/rbac.yaml.j2", **context)
    yield from render_template(2, "coordinator/gates.yaml.j2", **context, gate_roles=_gate_roles(settings))
    yield from render_template(2, "coordinator/deployment.yaml.j2", **context)
    yield from render_template(
        2, "coordinator/scaled-objects.yaml.j2", **context, scaled_objects=scaled_objects(estate)
    )
    if leases is not None:
        yield from render_template(2, "coordinator/leases.yaml.j2", **context, **_lease_context(leases))


def _lease_context(leases: LeaseSettings) -> dict[str, Any]:
    holders = [
        {
            "tenant": holder.tenant,
            "namespace": holder.namespace,
            "role": address_of("lease-role", holder.tenant),
            "binding": address_of("lease-role-binding", holder.tenant),
            "rules": policy_rules(holder_rights(holder.tenant), "tenants"),
            "subjects": [
                {"kind": "ServiceAccount", "name": account, "namespace": holder.namespace}
                for account in holder.service_accounts
            ],
        }
        for holder in leases.holders
    ]
    event_namespaces = [
        (name, address_of("lease-events-role", name), address_of("lease-events-role-binding", name))
        for name in sorted({holder.namespace for holder in leases.holders})
    ]
    event_rules = policy_rules(serving_rights(), "tenants")
    return {"holders": holders, "event_namespaces": event_namespaces, "event_rules": event_rules}


def _secrets(settings: CoordinatorSettings) -> list[tuple[str, SecretKey]]:
    """`(variable, Secret)`: from which Secret each variable of the container is filled."""
    found = [(settings.redis.password_env, settings.redis.password_secret)]
    if settings.immich is not None:
        found.append((settings.immich.api_key_env, settings.immich.api_key_secret))
    return [(variable, secret) for variable, secret in found if secret is not None]


def _gate_roles(settings: CoordinatorSettings) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
    """Namespace, addresses of Role and RoleBinding, rules: one for each namespace with a gated tenant."""
    namespaces = sorted({rule.workload.namespace for rule in settings.gates})
    return [
        (
            namespace,
            address_of("gate-role", namespace),
            address_of("gate-role-binding", namespace),
            policy_rules(gate_rights(settings.gates, namespace), "tenants"),
        )
        for namespace in namespaces
    ]


def coordinator_arguments(leases: LeaseSettings | None = None) -> list[str]:
    """`gpumem` arguments of the coordinator's container."""
    arguments = ["coordinator", "run", "--settings", names.COORDINATOR_CONFIG_PATH]
    arguments += ["--address", f":{names.COORDINATOR_PORT}"]
    if leases is not None:
        arguments += ["--lease-address", f":{names.LEASES_PORT}"]
        arguments += ["--lease-tls", names.LEASE_TLS_PATH] if leases.tls_secret else []
    return arguments
