"""Wave 2: the GPU manager itself, and what it may do in each project's namespace."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.model import Estate
from helpers.domain.jobs.rights import engine_rights, manager_rights
from helpers.domain.jobs.settings import manager_settings
from helpers.domain.rights import policy_rules
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.projects import after_namespace
from helpers.rendering.templates import render_template


def manager_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Rights, settings, Service and Deployment; nothing where the estate has no `manager` block."""
    manager, settings = estate.manager, manager_settings(estate)
    if manager is None or settings is None:
        return
    rights = (*manager_rights(), *engine_rights(manager.engine, scheduler_gangs=manager.scheduler_gangs))
    document = settings.model_dump_json(exclude_defaults=True)
    context: dict[str, Any] = {
        "labels": names.MANAGED_BY,
        "label_prefix": estate.label_prefix,
        "namespace": GPU_SYSTEM_NAMESPACE,
        "name": names.MANAGER_COMPONENT,
        "config_map": names.MANAGER_CONFIG_MAP,
        "namespace_rules": policy_rules(rights, "namespace"),
        "cluster_rules": policy_rules(rights, "cluster"),
        "project_rules": policy_rules(rights, "tenants"),
        "projects": [
            {
                "name": project.name,
                "role": address_of("manager-project-role", project.name),
                "binding": address_of("manager-project-binding", project.name),
                "after": after_namespace(estate, project),
            }
            for project in manager.projects
        ],
        "settings_json": document,
        "settings_sha256": hashlib.sha256(document.encode()).hexdigest(),
        "image": estate.image.reference(),
        "replicas": manager.replicas,
        "arguments": manager_arguments(manager),
        "namespace_variable": names.ENV_NAMESPACE,
        "database_variable": manager.database_url_env,
        "database_secret": manager.database_secret,
        "alert_secrets": sorted(manager.budget_alerts.secrets().items()) if manager.budget_alerts else [],
        "port": names.MANAGER_PORT,
        "metrics_port": names.MANAGER_METRICS_PORT,
        "tls_secret": manager.tls_secret,
        "tls_path": names.MANAGER_TLS_PATH,
    }
    yield from render_template(2, "manager/rbac.yaml.j2", **context)
    if manager.database_secret is not None:
        # Without it nothing says which database a pod would use, and each replica would make one of its own.
        yield from render_template(2, "manager/deployment.yaml.j2", **context)


def manager_arguments(manager: Manager) -> list[str]:
    """`gpumem` arguments of the manager's container."""
    arguments = ["manager", "run", "--settings", names.MANAGER_CONFIG_PATH, "--address", f":{names.MANAGER_PORT}"]
    arguments += ["--metrics-address", f":{names.MANAGER_METRICS_PORT}"]
    return [*arguments, *(["--tls", names.MANAGER_TLS_PATH] if manager.tls_secret else [])]
