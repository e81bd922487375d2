"""Puts the budget's fields into workloads that somebody else owns, and gives them back.

A pure server-side apply of those fields alone, as a field manager of its own: it survives the
owner's next `kubectl apply`, Helm upgrade or sync. Not through kubectl or its provider: they migrate
the ownership of everything that a client-side apply wrote, and then take it away.
"""

from __future__ import annotations

from typing import Any

from helpers.domain import names
from helpers.domain.admission.pods import containers, limits, requests
from helpers.domain.budget import API_VERSION, BudgetFields, WorkloadIdentity
from helpers.domain.errors import CheckFailed, Conflict
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.outcome import Outcome


def set_budget(cluster: Cluster, fields: BudgetFields, *, dry_run: bool = False, force: bool = False) -> Outcome:
    """Writes budget and shares into the container's limits; nothing where they are there already.

    Args:
        cluster: Where the workload is.
        fields: The numbers, and where they go.
        dry_run: The API server checks the write and keeps nothing.
        force: Take fields over that another manager holds with other values.

    Raises:
        CheckFailed: the workload or its container is not there (neither is ever created), or another
            field manager holds a field with another value.
        ClusterError: the API refused or did not answer.
    """
    where = f"{fields.kind} {fields.namespace}/{fields.workload}"
    found = cluster.get(_ref(fields))
    if found is None:
        raise CheckFailed(
            f"tenant {fields.tenant}: {where} is not there. Its owner deploys it; apply again when it is, "
            "or correct namespace, kind and name in the estate."
        )
    _check_container(found, fields, where)
    try:
        if fields.claim_template:
            _check_one_chooser(_apply(cluster, fields, found, force=force, dry_run=True), fields, where)
        result = _apply(cluster, fields, found, force=force, dry_run=dry_run)
    except Conflict as conflict:
        raise CheckFailed(
            f"tenant {fields.tenant}: {where} container {fields.container} has other numbers from another owner "
            f"({conflict}). Remove the lines from that owner's manifest, write the owner's number in the estate, "
            "or take them over with --force."
        ) from conflict
    numbers = fields.text()
    subject = f"tenant {fields.tenant}: {where} container {fields.container}"
    if _generation(result) == _generation(found):
        return Outcome(changed=False, message=f"{subject} has {numbers} already")
    return Outcome(changed=True, message=f"{subject}: {'would set' if dry_run else 'set'} {numbers}")


def unset_budget(cluster: Cluster, identity: WorkloadIdentity, *, dry_run: bool = False) -> Outcome:
    """Gives back every field that we own in the workload. What others own stays as it is.

    A workload that is gone, or holds nothing of ours, is no failure.

    Raises:
        ClusterError: the API refused or did not answer.
    """
    subject = f"tenant {identity.tenant}: {identity.kind} {identity.namespace}/{identity.workload}"
    found = cluster.get(_ref(identity))
    if found is None:
        return Outcome(changed=False, message=f"{subject} is gone, and the budget with it")
    if not _holds_budget(found):
        return Outcome(changed=False, message=f"{subject} holds no budget of ours")
    cluster.apply(
        _guarded(identity.released_manifest(), found),
        field_manager=names.FIELD_MANAGER_BUDGET,
        dry_run=dry_run,
    )
    return Outcome(changed=True, message=f"{subject}: budget {'would be given' if dry_run else 'given'} back")


def _ref(identity: WorkloadIdentity) -> ObjectRef:
    return ObjectRef(API_VERSION, identity.kind, identity.workload, identity.namespace)


def _apply(cluster: Cluster, fields: BudgetFields, found: Manifest, *, force: bool, dry_run: bool) -> Manifest:
    manifest = _guarded(fields.manifest(), found)
    return cluster.apply(manifest, field_manager=names.FIELD_MANAGER_BUDGET, force=force, dry_run=dry_run)


def _check_one_chooser(applied: Manifest, fields: BudgetFields, where: str) -> None:
    """What the owner's manifest asks for stays in it: with a claim beside it, two would choose a card each.

    In whichever container: a pod is placed as a whole.
    """
    asked = [(one["name"], _chosen_by(one, fields)) for _, _, one in containers(applied["spec"]["template"])]
    listed = "; ".join(f"container {name} itself asks for {' and '.join(what)}" for name, what in asked if what)
    if listed:
        raise CheckFailed(
            f"tenant {fields.tenant}: {where} {listed}, and the card comes from the claim alone. Remove the lines from "
            "its owner's manifest, or use apply: admission, which takes them off each pod."
        )


def _chosen_by(container: Manifest, fields: BudgetFields) -> list[str]:
    amounts = {**requests(container), **limits(container)}
    shared = fields.share_resource
    # A share that the device plugin renamed has a whole card's name besides.
    resources = dict.fromkeys((fields.resource, shared, shared.removesuffix(".shared"), WHOLE_GPU_RESOURCE))
    return [name for name in resources if name in amounts]


def _check_container(found: Manifest, fields: BudgetFields, where: str) -> None:
    known = [str(container["name"]) for container in found["spec"]["template"]["spec"]["containers"]]
    if fields.container not in known:
        raise CheckFailed(
            f"tenant {fields.tenant}: {where} has no container {fields.container}; it has {', '.join(known)}. "
            "Correct workload.container in the estate."
        )


def _guarded(manifest: dict[str, Any], found: Manifest) -> dict[str, Any]:
    # With the uid, an apply to a workload that was deleted meanwhile is refused instead of creating one.
    return {**manifest, "metadata": {**manifest["metadata"], "uid": found["metadata"]["uid"]}}


def _generation(item: Manifest) -> int:
    # Counts changes of the spec alone: status updates and changes of ownership do not show.
    return int(item["metadata"]["generation"])


def _holds_budget(item: Manifest) -> bool:
    return any(
        entry.get("manager") == names.FIELD_MANAGER_BUDGET and entry.get("operation") == "Apply"
        for entry in item["metadata"].get("managedFields") or []
    )
