"""Wave 2: what works on top of cards and tenants: the coordinator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.estate.coordinator import SecretKey
from helpers.domain.estate.model import Estate
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.domain.rights import policy_rules
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template


def platform_objects(estate: Estate) -> Iterator[RenderedObject]:
    """The coordinator and its rights, where the estate declares one; else nothing."""
    settings = coordinator_settings(estate)
    if settings is None:
        return
    document, rights = settings.to_json(), coordinator_rights(settings)
    context = {
        "labels": {"app.kubernetes.io/managed-by": "gpumem"},
        "label_prefix": estate.label_prefix,
        "namespace": GPU_SYSTEM_NAMESPACE,
        "name": names.COORDINATOR_COMPONENT,
        "config_map": names.COORDINATOR_CONFIG_MAP,
        "namespace_rules": policy_rules(rights, "namespace"),
        "cluster_rules": policy_rules(rights, "cluster"),
        "tenant_rules": policy_rules(rights, "tenants"),
        "tenant_namespaces": [
            (name, address_of("coordinator-tenant-role", name), address_of("coordinator-tenant-binding", name))
            for name in sorted({rule.namespace for rule in settings.hooks})
        ],
        "settings_json": document,
        "settings_sha256": hashlib.sha256(document.encode()).hexdigest(),
        "image": estate.image.reference(),
        "arguments": coordinator_arguments(),
        "namespace_variable": names.ENV_NAMESPACE,
        "secrets": _secrets(settings),
        "port": names.COORDINATOR_PORT,
    }
    yield from render_template(2, "coordinator/rbac.yaml.j2", **context)
    yield from render_template(2, "coordinator/deployment.yaml.j2", **context)


def _secrets(settings: CoordinatorSettings) -> list[tuple[str, SecretKey]]:
    """`(variable, Secret)`: from which Secret each variable of the container is filled."""
    found = [(settings.redis.password_env, settings.redis.password_secret)]
    if settings.immich is not None:
        found.append((settings.immich.api_key_env, settings.immich.api_key_secret))
    return [(variable, secret) for variable, secret in found if secret is not None]


def coordinator_arguments() -> list[str]:
    """`gpumem` arguments of the coordinator's container."""
    settings = ["--settings", names.COORDINATOR_CONFIG_PATH]
    return ["coordinator", "run", *settings, "--address", f":{names.COORDINATOR_PORT}"]
