"""What the block `budget` must agree on: with Kubernetes's version, with quotas and defaults, and with itself."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.dra.claims import second_claims
from helpers.domain.errors import Problem
from helpers.domain.estate.budget_backend import FIRST_MINOR_WITH_SHARED_DEVICES
from helpers.domain.estate.model import Estate


def budget_problems(estate: Estate) -> Iterator[Problem]:
    """Problems of budgets that are claims."""
    yield from _version(estate)
    if estate.budget.published_by != "agent" and not estate.claim_nodes():
        rule = "published_by says who publishes cards for claims, and no kind of node counts budgets by claims"
        repair = "set backend: dra, or remove published_by"
        yield Problem("budget.published_by", estate.budget.published_by, rule, repair)
    yield from _mig(estate)
    yield from _quotas(estate)
    yield from _default_budgets(estate)
    yield from _second_claims(estate)


def _version(estate: Estate) -> Iterator[Problem]:
    if estate.minor_version >= FIRST_MINOR_WITH_SHARED_DEVICES:
        return
    wishes = [("budget.backend", estate.budget.backend)]
    wishes += [
        (f"nodes[{index}].budget.backend", node.budget.backend)
        for index, node in enumerate(estate.nodes)
        if node.budget
    ]
    for path, backend in wishes:
        if backend == "dra":
            yield Problem(
                path,
                backend,
                f"claims on a part of a card are there from Kubernetes 1.{FIRST_MINOR_WITH_SHARED_DEVICES} on, and "
                f"kubernetes.version is {estate.kubernetes.version}",
                "use backend: extendedResource, or auto",
            )


def _mig(estate: Estate) -> Iterator[Problem]:
    for index, node in enumerate(estate.nodes):
        for number, gpu in enumerate(node.gpus):
            if gpu.mig is not None and not estate.uses_claims(node):
                rule = "the node's number knows no instances, so it would let a pod in that none of them holds"
                repair = "set budget: {backend: dra} on the node, or remove mig"
                yield Problem(f"nodes[{index}].gpus[{number}].mig", gpu.model, rule, repair)


def _quotas(estate: Estate) -> Iterator[Problem]:
    for index, quota in enumerate(estate.quotas):
        claimed = [t.name for t in estate.tenants if t.namespace == quota.namespace and estate.is_claimed(t)]
        if claimed:
            rule = f"a ResourceQuota counts the number, and no MiB of claims, which {', '.join(claimed)} have"
            repair = "remove the quota, or keep these tenants on nodes with backend: extendedResource"
            yield Problem(f"quotas[{index}].namespace", quota.namespace, rule, repair)


def _default_budgets(estate: Estate) -> Iterator[Problem]:
    if estate.admission is None or not estate.admission.default_budgets:
        return
    if not estate.number_nodes():
        rule = "a default is a number, and no node has one: every kind of node counts budgets by claims"
        repair = "use required_budget: deny, or keep one kind of node on backend: extendedResource"
        yield Problem("admission.default_budgets", "", rule, repair)


def _second_claims(estate: Estate) -> Iterator[Problem]:
    for index, tenant in enumerate(estate.tenants):
        if tenant.pod is None or not estate.is_claimed(tenant):
            continue
        for place in second_claims(tenant.pod, tenant.workload.container):
            rule = "a container has its budget on one card: of two claims it would be told only one"
            repair = "remove the claim, or give it to another container of the pod"
            path = f"tenants[{index}].pod.resourceClaims[{place}].resourceClaimTemplateName"
            yield Problem(path, tenant.pod["resourceClaims"][place]["resourceClaimTemplateName"], rule, repair)
