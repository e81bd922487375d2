"""Wave 0: the admission webhook, for API servers that cannot run the rules themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from helpers.domain import names
from helpers.domain.admission.decision import PodSecurityLevel
from helpers.domain.admission.rights import injector_rights
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE, resolved_engine
from helpers.domain.admission.webhook import LEVEL_BY_PATH, LEVEL_LABEL, LIMITED_LEVELS, NAME_LABEL, webhook_name
from helpers.domain.estate.model import Estate
from helpers.domain.rights import policy_rules
from helpers.rendering.gpu_system import gpu_system_address
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template

Certificates = Literal["self", "cert-manager"]

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - within the pod; API servers come from outside it
# Endpoints are taken away within this time on any cluster that is well; the pod may take twice as long.
DRAIN_SECONDS = 10
_INJECT_CA_FROM = "cert-manager.io/inject-ca-from"


def runs_webhook(estate: Estate) -> bool:
    """Whether the estate's admission is the webhook."""
    return estate.admission is not None and resolved_engine(estate, estate.admission) == "webhook"


def webhook_objects(
    estate: Estate,
    settings_json: str,
    match_conditions: Sequence[dict[str, str]],
    excluded_namespaces: Sequence[str],
    *,
    certificates: Certificates = "self",
) -> Iterator[RenderedObject]:
    """Rights, Service, Deployment and MutatingWebhookConfiguration, in the order of their need.

    Args:
        estate: The estate.
        settings_json: The admission document that the injector mounts.
        match_conditions: `[{name, expression}]`: the pods that the API server asks about at all.
        excluded_namespaces: Whose pods it never asks about; gpu-system must be among them.
        certificates: Who makes the certificate.
    """
    context = _context(estate, settings_json, certificates)
    webhooks = [_webhook(path, level, estate, excluded_namespaces) for path, level in LEVEL_BY_PATH.items()]
    yield from render_template(
        0,
        "admission/webhook.yaml.j2",
        **context,
        webhooks=webhooks,
        match_conditions=list(match_conditions),
        settings_json=settings_json,
    )
    yield from render_template(0, "admission/webhook-rbac.yaml.j2", **context)
    if certificates == "cert-manager":
        yield from render_template(0, "admission/webhook-certificate.yaml.j2", **context)


def injector_arguments(certificates: Certificates) -> list[str]:
    """`gpumem` arguments of the injector's container."""
    arguments = ["injector", "run", "--settings", names.INJECTOR_CONFIG_PATH, "--certificates", certificates]
    arguments += ["--listen-address", f"{_ANY_ADDRESS}:{names.INJECTOR_PORT}"]
    arguments += ["--metrics-address", f":{names.INJECTOR_METRICS_PORT}"]
    return [*arguments, "--dns-name", _dns_name(), "--drain-seconds", str(DRAIN_SECONDS)]


def _context(estate: Estate, settings_json: str, certificates: Certificates) -> dict[str, Any]:
    labels = names.MANAGED_BY
    rights = injector_rights(certificates=certificates)
    by_cert_manager = certificates == "cert-manager"
    certificate = names.WEBHOOK_SERVICE
    return {
        "estate": estate,
        "labels": labels,
        "pod_labels": labels | {"app": names.WEBHOOK_SERVICE, "app.kubernetes.io/name": names.INJECTOR_COMPONENT},
        "namespace": GPU_SYSTEM_NAMESPACE,
        "namespace_address": gpu_system_address(estate),
        "service": names.WEBHOOK_SERVICE,
        "service_account": names.INJECTOR_SERVICE_ACCOUNT,
        "config_map": names.INJECTOR_CONFIG_MAP,
        "configuration": names.WEBHOOK_CONFIGURATION,
        "secret": names.WEBHOOK_SECRET,
        "dns_name": _dns_name(),
        "certificate": certificate,
        "annotations": {_INJECT_CA_FROM: f"{GPU_SYSTEM_NAMESPACE}/{certificate}"} if by_cert_manager else {},
        "cluster_rules": policy_rules(rights, "cluster"),
        "namespace_rules": policy_rules(rights, "namespace"),
        "default_rules": policy_rules(rights, "default"),
        "settings_sha256": hashlib.sha256(settings_json.encode()).hexdigest(),
        "settings_folder": str(PurePosixPath(names.INJECTOR_CONFIG_PATH).parent),
        "namespace_variable": names.ENV_NAMESPACE,
        "arguments": injector_arguments(certificates),
        "port": names.INJECTOR_PORT,
        "metrics_port": names.INJECTOR_METRICS_PORT,
    }


def _webhook(path: str, level: PodSecurityLevel, estate: Estate, excluded_namespaces: Sequence[str]) -> dict[str, Any]:
    limited = level in LIMITED_LEVELS
    values = [level] if limited else list(LIMITED_LEVELS)
    expressions = [
        {"key": NAME_LABEL, "operator": "NotIn", "values": list(excluded_namespaces)},
        # NotIn takes namespaces without the label, too.
        {"key": LEVEL_LABEL, "operator": "In" if limited else "NotIn", "values": values},
    ]
    return {
        "name": webhook_name(level, estate.label_prefix),
        "path": path,
        "namespace_selector": {"matchExpressions": expressions},
    }


def _dns_name() -> str:
    return names.service_dns_name(names.WEBHOOK_SERVICE, GPU_SYSTEM_NAMESPACE)
