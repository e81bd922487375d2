"""What the block `admission` must agree on: with Kubernetes's version, within itself, and with the cards."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain import names
from helpers.domain.admission.settings import (
    devices_of,
    excluded_namespaces,
    resolved_engine,
)
from helpers.domain.errors import Problem
from helpers.domain.estate.admission import (
    FIRST_MINOR_WITH_MATCH_CONDITIONS,
    FIRST_MINOR_WITH_POLICIES,
    Admission,
)
from helpers.domain.estate.model import Estate


def admission_problems(estate: Estate) -> Iterator[Problem]:
    """Problems of the block; none where the estate has none."""
    yield from _tenants(estate, estate.admission)
    if estate.admission is not None:
        yield from _engine(estate, estate.admission)
        yield from _directory_sets(estate.admission)
        yield from _default_budgets(estate, estate.admission)


def _tenants(estate: Estate, admission: Admission | None) -> Iterator[Problem]:
    for index, tenant in enumerate(estate.tenants):
        if tenant.pod_labels is None:
            continue
        path = f"tenants[{index}].pod_labels"
        if admission is None:
            rule = "admission does this at the pods' creation, and the estate has no block admission"
            yield Problem(path, tenant.name, rule, "add admission: {}, or use apply: patch without framework")
        elif tenant.namespace in excluded_namespaces(estate, admission):
            rule = f"pods of {tenant.namespace} are never looked at"
            repair = "remove the namespace from excluded_namespaces, or use apply: patch"
            yield Problem(path, tenant.namespace, rule, repair)


def _engine(estate: Estate, admission: Admission) -> Iterator[Problem]:
    version = estate.kubernetes.version
    engine = resolved_engine(estate, admission)
    if engine == "policy" and estate.minor_version < FIRST_MINOR_WITH_POLICIES:
        yield Problem(
            "admission.engine",
            admission.engine,
            f"MutatingAdmissionPolicy is there from Kubernetes 1.{FIRST_MINOR_WITH_POLICIES} on, and "
            f"kubernetes.version is {version}",
            "use engine: webhook, or auto",
        )
    if engine == "webhook" and estate.minor_version < FIRST_MINOR_WITH_MATCH_CONDITIONS:
        yield Problem(
            "admission.engine",
            admission.engine,
            f"a webhook is only safe with matchConditions, which Kubernetes has from 1."
            f"{FIRST_MINOR_WITH_MATCH_CONDITIONS} on; kubernetes.version is {version}",
            "remove the block admission, or update Kubernetes",
        )
    if engine == "policy" and admission.certificates != "self":
        yield Problem(
            "admission.certificates",
            admission.certificates,
            "only the webhook has a certificate, and the engine is policy",
            "remove certificates, or use engine: webhook",
        )


def _directory_sets(admission: Admission) -> Iterator[Problem]:
    sets: dict[str, int] = {}
    volumes: dict[str, str] = {}
    for index, one in enumerate(admission.directory_sets):
        path = f"admission.directory_sets[{index}]"
        if one.name in sets:
            rule = f"a set's name is unique; directory_sets[{sets[one.name]}] has it too"
            yield Problem(f"{path}.name", one.name, rule, "give one of the two another name, or join them")
        sets.setdefault(one.name, index)
        for device in devices_of(one, cards_count=1):
            if not names.is_dns_label(device.volume):
                rule = f"a path becomes a volume's name, and {device.volume} is none"
                yield Problem(path, device.path, rule, "mount a folder above it")
            elif device.volume in volumes:
                rule = f"a path belongs to one set and one volume; {volumes[device.volume]} has volume {device.volume}"
                yield Problem(path, device.path, rule, "remove one of the two; the annotation can name several sets")
            volumes.setdefault(device.volume, device.path)


def _default_budgets(estate: Estate, admission: Admission) -> Iterator[Problem]:
    defaults = admission.default_budgets
    if admission.required_budget == "default" and not defaults:
        rule = "required_budget: default sets a default, and none is declared"
        yield Problem("admission.required_budget", "default", rule, "add default_budgets, or use deny")
    elif admission.required_budget != "default" and defaults:
        rule = f"default_budgets do nothing with required_budget: {admission.required_budget}"
        yield Problem("admission.default_budgets", "", rule, "use required_budget: default, or remove them")
    largest_mib = max(node.largest_card_mib for node in estate.nodes)
    ignored = excluded_namespaces(estate, admission)
    first: dict[str, int] = {}
    for index, item in enumerate(defaults):
        path = f"admission.default_budgets[{index}]"
        if item.namespace in first:
            rule = f"a namespace has one default; default_budgets[{first[item.namespace]}] has it too"
            yield Problem(f"{path}.namespace", item.namespace, rule, "remove one of the two")
        first.setdefault(item.namespace, index)
        if item.namespace in ignored:
            rule = "pods of an excluded namespace are never looked at"
            yield Problem(f"{path}.namespace", item.namespace, rule, "remove it here, or from excluded_namespaces")
        if item.budget_mib > largest_mib:
            rule = f"a pod lives on one card, and the largest advertises {largest_mib} MiB"
            yield Problem(f"{path}.budget_mib", str(item.budget_mib), rule, f"set budget_mib: {largest_mib} or less")
