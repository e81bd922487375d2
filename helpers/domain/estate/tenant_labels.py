"""By which labels a tenant's pods are known, and that no pod can be two tenants'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant


def rendered_labels(label_prefix: str, tenant: Tenant) -> dict[str, str]:
    """What every pod of a `create` tenant carries."""
    return {
        **names.MANAGED_BY,
        # The tenant's name and not the workload's: a label value ends at 63 characters.
        "app.kubernetes.io/name": tenant.name,
        f"{label_prefix}/tenant": tenant.name,
        f"{label_prefix}/class": tenant.workload_class,
    }


def pods_of_one_tenant(estate: Estate) -> Iterator[Problem]:
    """No pod can match the `pod_labels` of two tenants: which budget it gets would be chance."""
    for index, tenant in enumerate(estate.tenants):
        if tenant.pod_labels is None:
            continue
        # Of two tenants with pod_labels the later one is told.
        rivals = [*estate.tenants[:index], *(one for one in estate.tenants[index:] if one.apply == "create")]
        for rival in rivals:
            labels = rendered_labels(estate.label_prefix, rival) if rival.apply == "create" else rival.pod_labels
            if labels and rival.namespace == tenant.namespace and _may_be_both(tenant.pod_labels, rival, labels):
                yield Problem(
                    f"tenants[{index}].pod_labels",
                    _text(tenant.pod_labels),
                    f"a pod of namespace {tenant.namespace} could be {tenant.name}'s and {rival.name}'s at once "
                    f"({_text(labels)})",
                    "name labels that only its own pods carry: the same key with another value tells two tenants apart",
                )


def _may_be_both(mine: Mapping[str, str], rival: Tenant, theirs: Mapping[str, str]) -> bool:
    if rival.apply == "create":
        # What is rendered carries exactly these, so only a selector within them matches.
        return mine.items() <= theirs.items()
    return all(mine.get(key, value) == value for key, value in theirs.items())


def _text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
