"""Pods in a move that no scaling ends, and pods that are made too early: acts on single pods, by uid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.domain.admission.claims import has_claim
from helpers.domain.errors import ClusterError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.pod_phase import ENDED
from helpers.ports.cluster import Manifest, ObjectRef
from helpers.services.capacity_observation import PODS, pod_budget_mib
from helpers.services.live import tenant_pods
from helpers.services.migrate_facts import workload_of
from helpers.services.migrate_hands import Hands, wait

# Every API server learns of a rule on its own, and behind one address there may be three.
_ANSWERS_COUNT = 3


def live_pods(hands: Hands, target: Estate, tenant: Tenant) -> list[Manifest]:
    """The tenant's pods that have not ended."""
    found = tenant_pods(hands.cluster, target)[tenant.name]
    return [pod for pod in found if pod.get("status", {}).get("phase") not in ENDED]


def end_pods_that_run(hands: Hands, target: Estate, tenant: Tenant, *, by_claim: bool) -> None:
    """Deletes the pods of a DaemonSet that hold a budget by claim, or by number: nothing else stops them all.

    Its controller makes new ones at once. They find no number, or (by claim) come from a template without one.
    """
    for pod in live_pods(hands, target, tenant):
        mine = (
            has_claim(pod) if by_claim else bool(pod_budget_mib(pod, target.resource) and pod["spec"].get("nodeName"))
        )
        if mine and "deletionTimestamp" not in pod["metadata"]:
            _end(hands, tenant, pod, "its budget moves to the other backend, and a DaemonSet cannot be scaled")


def end_pods_made_too_early(hands: Hands, target: Estate, tenant: Tenant) -> None:
    """Deletes pods that came with the number after it was taken off: no node will ever take them."""
    for pod in live_pods(hands, target, tenant):
        waits = not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
        if waits and pod_budget_mib(pod, target.resource) and not has_claim(pod):
            _end(hands, tenant, pod, "it asks for the number, which is gone; the next one has a claim")


def wait_until_admitted(hands: Hands, target: Estate, tenant: Tenant, *, by_claim: bool) -> None:
    """Until the API server makes the tenant's pods with the budget of the new backend: its rule takes a while to hold.

    Raises:
        CheckFailed: not within the time, or such a pod is refused; says what came.
    """
    workload = workload_of(hands.cluster, tenant)
    if workload is None:
        return
    right_count, came = 0, "nothing"

    def admitted() -> bool:
        nonlocal right_count, came
        try:
            made = hands.cluster.create(_probe(workload), field_manager="gpumem-migrate", dry_run=True)
        except ClusterError as error:
            right_count, came = 0, str(error)
            return False
        by_number = bool(pod_budget_mib(made, target.resource))
        right = has_claim(made) == by_claim and by_number != by_claim
        has = " and ".join(what for what, there in (("claim", has_claim(made)), ("number", by_number)) if there)
        right_count, came = right_count + 1 if right else 0, f"one with {has or 'no budget'}"
        return right_count >= _ANSWERS_COUNT

    wanted = "claim" if by_claim else "number"
    wait(
        hands,
        admitted,
        lambda: (
            f"tenant {tenant.name}: a pod of {tenant.namespace}/{tenant.workload.name} made now (a dry run) is "
            f"{came}, wanted one with its budget by {wanted} alone: see that its pod_labels are on the pods "
            "and that its policy is in force"
        ),
    )


def _probe(workload: Manifest) -> Manifest:
    template: Mapping[str, Any] = workload["spec"]["template"]
    kept = {key: template.get("metadata", {}).get(key) for key in ("labels", "annotations")}
    metadata = {key: value for key, value in kept.items() if value}
    place = {"name": "gpumem-migrate-probe", "namespace": workload["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | place, "spec": template["spec"]}


def _end(hands: Hands, tenant: Tenant, pod: Manifest, why: str) -> None:
    metadata = pod["metadata"]
    ref = ObjectRef(PODS.api_version, PODS.kind, metadata["name"], metadata["namespace"])
    removal = hands.cluster.delete(ref, uid=metadata["uid"])
    if removal.answer == "accepted":
        hands.events.record(pod, "GpumemBudgetMoved", f"deleted by gpumem migrate: {why}")
        hands.say(f"tenant {tenant.name}: {ref} deleted: {why}")
