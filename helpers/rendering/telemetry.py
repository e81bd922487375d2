"""Wave 0: what measures (the exporter on every GPU node) and what defends (the watchdog)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.dra.claims import driver_of
from helpers.domain.dra.settings import DraAgentSettings
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.rights import policy_rules
from helpers.domain.watchdog.rights import (
    EXPORTER_SERVICE,
    WATCHDOG_COMPONENT,
    WATCHDOG_SERVICE_ACCOUNT,
    watchdog_rights,
)
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.nvidia import gpu_tolerations
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - within the pod; its network is the cluster's to close


def telemetry_objects(estate: Estate) -> Iterator[RenderedObject]:
    """The exporter's DaemonSets (one a node entry: selectors differ), the watchdog, and the rights of both."""
    shared = {"estate": estate, "labels": names.MANAGED_BY}
    yield from _exporter(estate, shared)
    yield from _watchdog(estate, shared)


def exporter_arguments(estate: Estate, node: Node) -> list[str]:
    """`gpumem` arguments of the exporter's container on nodes of this kind."""
    exporter = estate.exporter
    arguments = ["exporter", "run", "--source", exporter.source, "--listen-address", _ANY_ADDRESS]
    arguments += ["--listen-port", str(names.EXPORTER_PORT), "--node-name", "$(NODE_NAME)"]
    arguments += ["--resource", estate.resource, "--interval-seconds", f"{exporter.interval_seconds:g}"]
    if exporter.source == "dcgm":
        arguments += ["--dcgm-url", f"http://$(HOST_IP):{exporter.dcgm_port}/metrics"]
        arguments += ["--dcgm-collection-seconds", f"{exporter.dcgm_collection_seconds:g}"]
    else:
        arguments += ["--host-cgroup", "/host/cgroup"]
    if folder := claims_folder(estate, node):
        arguments += ["--cdi-dir", folder]
    return arguments


def claims_folder(estate: Estate, node: Node) -> str:
    """Where our agent writes what claims hold on such a node; empty where it does not run."""
    by_agent = estate.uses_claims(node) and estate.budget.published_by == "agent"
    return str(DraAgentSettings.model_fields["cdi_dir"].default) if by_agent else ""


def watchdog_arguments(estate: Estate) -> list[str]:
    """`gpumem` arguments of the watchdog's container."""
    arguments = ["watchdog", "run", "--settings", names.WATCHDOG_CONFIG_PATH, "--resource", estate.resource]
    if estate.claim_nodes():
        arguments += ["--claims-driver", driver_of(estate)]
    return [*arguments, "--label-prefix", estate.label_prefix, "--metrics-address", f":{names.WATCHDOG_METRICS_PORT}"]


def _exporter(estate: Estate, shared: dict[str, Any]) -> Iterator[RenderedObject]:
    context = {
        **shared,
        "service_account": names.EXPORTER_SERVICE_ACCOUNT,
        "service": EXPORTER_SERVICE,
        "port": names.EXPORTER_PORT,
    }
    yield from render_template(0, "exporter/rbac.yaml.j2", **context)
    yield from render_template(0, "exporter/service.yaml.j2", **context)
    for node in estate.nodes:
        yield from _exporter_of(estate, node, context)


def _exporter_of(estate: Estate, node: Node, context: dict[str, Any]) -> Iterator[RenderedObject]:
    yield from render_template(
        0,
        "exporter/daemon-set.yaml.j2",
        **context,
        address=address_of("exporter-node", node.name),
        name=f"{EXPORTER_SERVICE}-{node.name}",
        node_selector=node.node_selector(),
        tolerations=gpu_tolerations(node),
        arguments=exporter_arguments(estate, node),
        cdi_folder=claims_folder(estate, node),
    )


def _watchdog(estate: Estate, shared: dict[str, Any]) -> Iterator[RenderedObject]:
    settings = watchdog_settings(estate).without_budgets().to_json()
    rights = watchdog_rights(allow_delete=estate.watchdog.allow_delete, claims=bool(estate.claim_nodes()))
    context = {
        **shared,
        "service_account": WATCHDOG_SERVICE_ACCOUNT,
        "name": WATCHDOG_COMPONENT,
        "config_map": names.WATCHDOG_CONFIG_MAP,
        "cluster_rules": policy_rules(rights, "cluster"),
        "namespace_rules": policy_rules(rights, "namespace"),
        "settings_json": settings,
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "arguments": watchdog_arguments(estate),
        "namespace_variable": names.ENV_NAMESPACE,
        "port": names.WATCHDOG_METRICS_PORT,
    }
    yield from render_template(0, "watchdog/rbac.yaml.j2", **context)
    yield from render_template(0, "watchdog/deployment.yaml.j2", **context)
