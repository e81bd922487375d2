"""Release (scale a tenant to zero, in an emergency) and restore; and the replicas of rendered tenants.

The number that a released tenant goes back to stands in an annotation on the workload itself, so
that whoever restores it needs neither our files nor our memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.domain import names
from helpers.domain.budget import API_VERSION, WorkloadIdentity
from helpers.domain.errors import CheckFailed, Conflict
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.outcome import Outcome

# The status of a workload changes while it scales, and each change makes our read stale.
_TRIES_COUNT = 5


class NotReleased(CheckFailed):
    """There is nothing to bring back."""


# From the object to the patch (None: nothing to do) and what to say.
_Decision = tuple[dict[str, Any] | None, str]


def release(
    cluster: Cluster, identity: WorkloadIdentity, label_prefix: str, *, gated: bool = False, dry_run: bool = False
) -> Outcome:
    """Scales the workload to 0 and remembers its replicas on it. A second run keeps what is remembered.

    `gated`: a demand gate scales it, so one that has no replicas now is marked as well: the gate leaves
    it alone until it is restored.

    Raises:
        CheckFailed: the workload is not there, or is a DaemonSet.
        ClusterError: the API refused or did not answer.
    """
    annotation = names.released_replicas_annotation(label_prefix)
    subject = _subject(identity)

    def decide(found: Manifest) -> _Decision:
        replicas, remembered = _replicas(found), _remembered(found, annotation, subject)
        if replicas == 0:
            if remembered is None and gated:
                held: dict[str, Any] = {"metadata": {"annotations": {annotation: "1"}}}
                return held, f"{subject}: its gate is closed, and leaves it so until `restore`"
            if remembered is None:
                return None, f"{subject} has no replicas; there is nothing to release"
            return None, f"{subject} is released already and goes back to {remembered} replicas"
        # Scaled up by somebody since an earlier release: that newer number is the one to go back to.
        patch = {"metadata": {"annotations": {annotation: str(replicas)}}, "spec": {"replicas": 0}}
        return patch, f"{subject}: released from {replicas} replicas; `restore` brings them back"

    return _change(cluster, identity, decide, names.FIELD_MANAGER_RELEASE, dry_run=dry_run)


def restore(
    cluster: Cluster, identity: WorkloadIdentity, label_prefix: str, *, gated: bool = False, dry_run: bool = False
) -> Outcome:
    """Scales the workload back to what `release` remembered, and forgets that.

    `gated`: it is only forgotten; the demand gate scales it when there is room and a use for it.

    Raises:
        CheckFailed: the workload is not there, is a DaemonSet, or (NotReleased) was not released.
        ClusterError: the API refused or did not answer.
    """
    annotation = names.released_replicas_annotation(label_prefix)
    subject = _subject(identity)

    def decide(found: Manifest) -> _Decision:
        remembered = _remembered(found, annotation, subject)
        if remembered is None:
            raise NotReleased(
                f"{subject} was not released (no annotation {annotation}) and has {_replicas(found)} replicas. "
                "Scale it by hand if that is not what you want."
            )
        forgotten: dict[str, Any] = {"metadata": {"annotations": {annotation: None}}}
        if gated:
            return forgotten, f"{subject}: given back to its gate"
        return {**forgotten, "spec": {"replicas": remembered}}, f"{subject}: restored to {remembered} replicas"

    return _change(cluster, identity, decide, names.FIELD_MANAGER_RELEASE, dry_run=dry_run)


def set_replicas(
    cluster: Cluster, identity: WorkloadIdentity, replicas: int, label_prefix: str, *, dry_run: bool = False
) -> Outcome:
    """Scales a rendered workload to the estate's number; one that is released gets it when restored.

    Raises:
        CheckFailed: the workload is not there, or is a DaemonSet.
        ClusterError: the API refused or did not answer.
    """
    annotation = names.released_replicas_annotation(label_prefix)
    subject = _subject(identity)

    def decide(found: Manifest) -> _Decision:
        current, remembered = _replicas(found), _remembered(found, annotation, subject)
        if current == replicas == 0:  # a gated tenant's; one that is released stays so
            return None, f"{subject} has 0 replicas already"
        if current == 0 and remembered is not None:
            if remembered == replicas:
                return None, f"{subject} is released and goes back to {replicas} replicas already"
            patch: dict[str, Any] = {"metadata": {"annotations": {annotation: str(replicas)}}}
            return patch, f"{subject} is released; it goes back to {replicas} replicas instead of {remembered}"
        if current == replicas:
            return None, f"{subject} has {replicas} replicas already"
        return {"spec": {"replicas": replicas}}, f"{subject}: scaled from {current} to {replicas} replicas"

    return _change(cluster, identity, decide, names.FIELD_MANAGER_REPLICAS, dry_run=dry_run)


def _change(
    cluster: Cluster,
    identity: WorkloadIdentity,
    decide: Callable[[Manifest], _Decision],
    field_manager: str,
    *,
    dry_run: bool,
) -> Outcome:
    ref = ObjectRef(API_VERSION, identity.kind, identity.workload, identity.namespace)
    for attempt in range(1, _TRIES_COUNT + 1):
        found = _scalable(cluster, identity, ref)
        patch, message = decide(found)
        if patch is None:
            return Outcome(changed=False, message=message)
        # Decided on what was read, so written only if it still is so.
        metadata = {**patch.get("metadata", {}), "resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            cluster.merge_patch(ref, {**patch, "metadata": metadata}, field_manager=field_manager, dry_run=dry_run)
        except Conflict:
            if attempt == _TRIES_COUNT:
                raise
        else:
            return Outcome(changed=True, message=f"dry run: {message}" if dry_run else message)
    raise AssertionError("unreachable: the last try returns or raises")


def _scalable(cluster: Cluster, identity: WorkloadIdentity, ref: ObjectRef) -> Manifest:
    if identity.kind == "DaemonSet":
        raise CheckFailed(
            f"{_subject(identity)}: a DaemonSet has no replicas to scale; it runs one pod on each node it matches. "
            "Take the label off the node, or delete the DaemonSet, to free its memory."
        )
    found = cluster.get(ref)
    if found is None:
        raise CheckFailed(f"{_subject(identity)} is not there. Apply the estate, or correct the workload in it.")
    return found


def _subject(identity: WorkloadIdentity) -> str:
    return f"tenant {identity.tenant}: {identity.kind} {identity.namespace}/{identity.workload}"


def _replicas(found: Manifest) -> int:
    return int(found["spec"].get("replicas", 1))


def _remembered(found: Manifest, annotation: str, subject: str) -> int | None:
    text = (found["metadata"].get("annotations") or {}).get(annotation)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise CheckFailed(
            f"{subject}: annotation {annotation} = {text!r} is no number of replicas above 0. "
            "Correct it by hand to what the workload should run, then try again."
        )
    return int(text)
