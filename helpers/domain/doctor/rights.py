"""What doctor may do: read these, and nothing else. No Secret, no log, no exec, no write (ADR 0025)."""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.rights import Right
from helpers.domain.watchdog.rights import WATCHDOG_LEASE

DOCTOR_ROLE = "gpumem-doctor"
_LIST = ("list",)


def settings_names(estate: Estate) -> tuple[str, ...]:
    """The ConfigMaps that are compared, all in the estate's namespace."""
    return (estate.device_plugin.config_map, names.CAPACITY_CONFIG_MAP, names.WATCHDOG_CONFIG_MAP)


def doctor_rights(estate: Estate) -> tuple[Right, ...]:
    """All rights; everybody who is known to the API server may read its version and what it serves."""
    rights = (
        Right("", "nodes", _LIST, "numbers, shares, labels, taints, readiness"),
        Right("", "pods", _LIST, "who holds what, who waits and why, who was refused"),
        Right("apps", "deployments", _LIST, "tenants' budgets and their owners; watchdog, capacity watch, webhook"),
        Right("apps", "statefulsets", _LIST, "tenants' budgets and their owners"),
        Right("apps", "daemonsets", _LIST, "the same; exporters"),
        Right("scheduling.k8s.io", "priorityclasses", _LIST, "there, with their value"),
        Right("node.k8s.io", "runtimeclasses", _LIST, "there, with its handler"),
        Right("admissionregistration.k8s.io", "mutatingadmissionpolicies", _LIST, "there, as rendered"),
        Right("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", _LIST, "each policy is bound"),
        Right("admissionregistration.k8s.io", "validatingadmissionpolicies", _LIST, "there, as rendered"),
        Right("admissionregistration.k8s.io", "validatingadmissionpolicybindings", _LIST, "each policy is bound"),
        Right("admissionregistration.k8s.io", "mutatingwebhookconfigurations", _LIST, "there, and whom it trusts"),
        # Nothing in them that pods do not show.
        Right("discovery.k8s.io", "endpointslices", _LIST, "the webhook's endpoints, the exporters' addresses"),
        Right("", "configmaps", ("get",), "the plugin's and our settings", "namespace", settings_names(estate)),
        Right("batch", "cronjobs", _LIST, "the capacity backstop runs", "namespace"),
        Right("batch", "jobs", _LIST, "its last runs", "namespace"),
        Right(
            "coordination.k8s.io", "leases", ("get",), "who leads", "namespace", (WATCHDOG_LEASE, names.CAPACITY_LEASE)
        ),
    )
    return (*rights, *_claims_rights()) if estate.claim_nodes() else rights


def _claims_rights() -> tuple[Right, ...]:
    group = "resource.k8s.io"
    return (
        Right(group, "resourceslices", _LIST, "what cards every node offers"),
        Right(group, "resourceclaims", _LIST, "who holds what of them"),
        Right(group, "deviceclasses", _LIST, "there, as rendered"),
        Right(group, "resourceclaimtemplates", _LIST, "there, as rendered"),
    )
