"""The node's number in a move to claims: it goes off, and nobody is left who would put it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.capacity import KeepCapacity, capacity_settings
from helpers.domain.dra.gate import numbers_shown
from helpers.domain.estate.model import Estate
from helpers.domain.pod_phase import NOT_ENDED
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.capacity import assert_capacity, sentence
from helpers.services.capacity_observation import PODS
from helpers.services.migrate_facts import nodes_of
from helpers.services.migrate_hands import Hands, wait

_JOBS = ObjectRef("batch/v1", "Job")
_FINISHED = ("Complete", "Failed")


def take_number_off(hands: Hands, target: Estate, kind: str, newest_watch: Mapping[str, str] | None) -> None:
    """Waits for those that keep the number by an older document, then takes it off and sees that it is off.

    A deleted Deployment's pod lives on until it is collected and told to end, and answers our own write with the
    number. So the number goes off when no such pod is left.

    Args:
        hands: What the move works with.
        target: The estate after the move.
        kind: The kind of node that is moved.
        newest_watch: The annotations of the pods of the watch that the target has, or None where it has none.

    Raises:
        CheckFailed: somebody keeps the number, or shows it without us; names who and where.
        ClusterError: the API refused or did not answer.
    """
    wait(
        hands,
        lambda: not keepers(hands.cluster, target, newest_watch),
        lambda: (
            f"{', '.join(keepers(hands.cluster, target, newest_watch)) or 'somebody'} still keeps the number of "
            f"{kind}, and claims count nothing of it: let it end, or delete it where its node is gone"
        ),
        progress=True,
    )
    wait(hands, lambda: _is_off(hands, target, kind), lambda: number_left(hands.cluster, target, kind))


def _is_off(hands: Hands, target: Estate, kind: str) -> bool:
    report = assert_capacity(hands.cluster, capacity_settings(target), events=hands.events, log=hands.log)
    for action in report.actions:
        if not isinstance(action, KeepCapacity):
            hands.say(sentence(action))
    return not number_left(hands.cluster, target, kind)


def number_left(cluster: Cluster, target: Estate, kind: str) -> str:
    """Which nodes of the kind still show the number, and who wrote it; empty where none does."""
    settings = capacity_settings(target)
    shown = numbers_shown(settings, nodes_of(cluster, target, kind))
    return "; ".join(f"{one.message()}; {_writers(cluster, one.subject.removeprefix('node '))}" for one in shown)


def keepers(cluster: Cluster, target: Estate, newest_watch: Mapping[str, str] | None) -> tuple[str, ...]:
    """Pods and Jobs of the capacity helper that may write a number by an older document, as messages name them."""
    pods = cluster.list(ObjectRef(PODS.api_version, PODS.kind, namespace=target.namespace), field_selector=NOT_ENDED)
    old = [pod for pod in pods if _is_ours(pod["spec"]) and not _is_newest(pod, newest_watch)]
    jobs = cluster.list(ObjectRef(_JOBS.api_version, _JOBS.kind, namespace=target.namespace))
    running = [job for job in jobs if _is_ours(job["spec"]["template"]["spec"]) and _runs(job)]
    return tuple(sorted({*_named("pod", old), *_named("Job", running)}))


def _is_ours(spec: Mapping[str, Any]) -> bool:
    # By the account, because nobody without it may write the number: the watch, the CronJob's Jobs, a delivery's step.
    return spec.get("serviceAccountName") == names.CAPACITY_SERVICE_ACCOUNT


def _is_newest(pod: Manifest, newest_watch: Mapping[str, str] | None) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    return newest_watch is not None and newest_watch.items() <= annotations.items()


def _runs(job: Manifest) -> bool:
    if job["spec"].get("suspend"):
        return False
    conditions = (job.get("status") or {}).get("conditions") or ()
    return not any(one["type"] in _FINISHED and one["status"] == "True" for one in conditions)


def _named(what: str, items: Sequence[Manifest]) -> Iterator[str]:
    return (f"{what} {item['metadata']['namespace']}/{item['metadata']['name']}" for item in items)


def _writers(cluster: Cluster, node: str) -> str:
    found = cluster.get(ObjectRef("v1", "Node", node)) or {"metadata": {}}
    managers = sorted({str(one.get("manager")) for one in found["metadata"].get("managedFields") or ()})
    return f"field managers of the node: {', '.join(managers)}; stop who writes it"
