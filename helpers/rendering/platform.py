"""Wave 2: what works on top of cards and tenants: the coordinator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.estate.model import Estate
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.lanes.settings import coordinator_settings
from helpers.domain.leases.rights import holder_rights
from helpers.domain.leases.settings import LeaseSettings
from helpers.domain.rights import Right, policy_rules
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template


def platform_objects(estate: Estate) -> Iterator[RenderedObject]:
    """The coordinator and its rights, where the estate declares one; else nothing."""
    settings = coordinator_settings(estate)
    if settings is None:
        return
    document, leases = settings.to_json(), settings.leases
    rights = coordinator_rights(leases=leases is not None)
    context = {
        "labels": {"app.kubernetes.io/managed-by": "gpumem"},
        "label_prefix": estate.label_prefix,
        "namespace": GPU_SYSTEM_NAMESPACE,
        "name": names.COORDINATOR_COMPONENT,
        "config_map": names.COORDINATOR_CONFIG_MAP,
        "namespace_rules": policy_rules(rights, "namespace"),
        "settings_json": document,
        "settings_sha256": hashlib.sha256(document.encode()).hexdigest(),
        "image": estate.image.reference(),
        "arguments": coordinator_arguments(settings.leases),
        "namespace_variable": names.ENV_NAMESPACE,
        "password_variable": settings.redis.password_env,
        "password_secret": settings.redis.password_secret,
        "port": names.COORDINATOR_PORT,
        "leases_port": names.LEASES_PORT if leases is not None else None,
        "tls_secret": leases.tls_secret if leases is not None else None,
        "tls_path": names.LEASE_TLS_PATH,
    }
    yield from render_template(2, "coordinator/rbac.yaml.j2", **context)
    yield from render_template(2, "coordinator/deployment.yaml.j2", **context)
    if leases is not None:
        more = _lease_context(leases, rights)
        yield from render_template(2, "coordinator/leases.yaml.j2", **context, **more)


def coordinator_arguments(leases: LeaseSettings | None = None) -> list[str]:
    """`gpumem` arguments of the coordinator's container."""
    arguments = ["coordinator", "run", "--settings", names.COORDINATOR_CONFIG_PATH]
    arguments += ["--address", f":{names.COORDINATOR_PORT}"]
    if leases is not None:
        arguments += ["--lease-address", f":{names.LEASES_PORT}"]
        arguments += ["--lease-tls", names.LEASE_TLS_PATH] if leases.tls_secret else []
    return arguments


def _lease_context(leases: LeaseSettings, rights: tuple[Right, ...]) -> dict[str, Any]:
    holders = [
        {
            "tenant": holder.tenant,
            "namespace": holder.namespace,
            "rules": policy_rules(holder_rights(holder.tenant), "tenants"),
            "subjects": [
                {"kind": "ServiceAccount", "name": account, "namespace": holder.namespace}
                for account in holder.service_accounts
            ],
        }
        for holder in leases.holders
    ]
    return {
        "holders": holders,
        "tenant_namespaces": sorted({holder.namespace for holder in leases.holders}),
        "cluster_rules": policy_rules(rights, "cluster"),
        "tenant_rules": policy_rules(rights, "tenants"),
    }
