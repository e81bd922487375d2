"""The pods as the watchdog needs them: a cache fed by a watch, and the truth about one node on request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from helpers.domain.errors import QuantityError
from helpers.domain.pod_owner import TEMPLATE_HASH, controller, workload_of
from helpers.domain.pod_phase import ENDED, NOT_ENDED
from helpers.domain.watchdog.facts import PodFacts
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.capacity_observation import pod_budget_mib
from helpers.services.watchdog_claims import ClaimBudgets

PODS = ObjectRef("v1", "Pod")
# One that is on no node, or has ended, holds no memory.
SELECTOR = f"spec.nodeName!=,{NOT_ENDED}"
_CONTAINER_KEYS = ("name", "resources", "restartPolicy")
_REMEMBERED_COUNT = 1000


@dataclass(frozen=True, slots=True)
class PodReading:
    """How pods are read: the extended resource of budgets, and the prefix of our annotations.

    `claims_driver`: whose cards budgets are claims on; empty where none is a claim.
    """

    settings: WatchdogSettings
    resource: str
    label_prefix: str
    claims_driver: str = ""

    @property
    def protected_annotation(self) -> str:
        """On a pod, anything but `false` keeps the watchdog's hands off it."""
        return f"{self.label_prefix}/protected"


@dataclass(frozen=True, slots=True)
class WatchedPod:
    """A pod's facts, and where its release hook listens."""

    facts: PodFacts
    address: str
    version: int


def trimmed(pod: Manifest) -> dict[str, Any]:
    """The part of a Pod that is read here: a twentieth of what the API sends."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "labels", "annotations")
    owner = controller(metadata)
    small: dict[str, Any] = {key: metadata[key] for key in kept if metadata.get(key)}
    # kubectl writes the whole object into an annotation once more.
    small["annotations"] = {k: v for k, v in (metadata.get("annotations") or {}).items() if len(v) < 64}
    small["labels"] = {k: v for k, v in (metadata.get("labels") or {}).items() if k == TEMPLATE_HASH}
    if owner is not None:
        small["ownerReferences"] = [{"kind": owner["kind"], "name": owner["name"], "controller": True}]
    containers = {
        key: [{k: one[k] for k in _CONTAINER_KEYS if k in one} for one in spec.get(key) or ()]
        for key in ("initContainers", "containers")
    }
    about = {k: spec[k] for k in ("nodeName", "priority", "priorityClassName", "overhead") if k in spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": small,
        "spec": {**containers, **about},
        "status": {k: status[k] for k in ("phase", "startTime", "podIP") if k in status},
    }


def watched_pod(pod: Manifest, reading: PodReading) -> WatchedPod | None:
    """A Pod object as facts; None where it is on no node or has ended."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ENDED:
        return None
    owner = controller(metadata)
    workload = workload_of(metadata)
    rule = _rule(reading.settings, str(metadata["namespace"]), workload)
    facts = PodFacts(
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        uid=str(metadata["uid"]),
        node=str(spec["nodeName"]),
        tenant=rule.name if rule else None,
        budget_mib=None,
        owner_kind=str(owner["kind"]) if owner else None,
        owner_name=workload[1],
        workload_class=rule.workload_class if rule else "realtime",
        priority=int(spec.get("priority") or 0),
        priority_class=str(spec.get("priorityClassName") or ""),
        protected=(metadata.get("annotations") or {}).get(reading.protected_annotation, "false") != "false",
        deletion_at=_instant(metadata.get("deletionTimestamp")),
        started_at=_instant(status.get("startTime")),
    )
    version = str(metadata.get("resourceVersion", ""))
    return WatchedPod(
        facts=_with_budget(facts, pod, reading.resource),
        address=str(status.get("podIP") or ""),
        version=int(version) if version.isdigit() else 0,
    )


def _rule(settings: WatchdogSettings, namespace: str, workload: tuple[str, str]) -> TenantRule | None:
    return next(
        (rule for rule in settings.tenants if (rule.namespace, rule.kind, rule.workload) == (namespace, *workload)),
        None,
    )


def _with_budget(facts: PodFacts, pod: Manifest, resource: str) -> PodFacts:
    """A budget that cannot be read is a problem that is shown, never an absent one and never 0."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    amounts = [(one.get("resources") or {}).get(field) or {} for one in containers for field in ("limits", "requests")]
    if not any(resource in amount for amount in amounts):
        return facts
    try:
        return replace(facts, budget_mib=pod_budget_mib(pod, resource))
    except QuantityError as error:
        return replace(facts, budget_problem=str(error))


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


class PodView:
    """All pods that may hold memory, by uid. `follow` runs in a thread of its own; readers may be many."""

    def __init__(self, cluster: Cluster, reading: PodReading) -> None:
        self._cluster = cluster
        self._reading = reading
        self.claims = ClaimBudgets(cluster, reading.claims_driver)
        self._lock = threading.Lock()
        self._pods: dict[str, WatchedPod] = {}
        # Deleted lately: a list that was answered before must not bring them back.
        self._gone: deque[str] = deque(maxlen=_REMEMBERED_COUNT)
        self.failure: Exception | None = None

    def follow(self, stop: Callable[[], bool]) -> None:
        """Keeps the cache until `stop()`; whatever ends it is left in `failure`."""
        try:
            for event in self._cluster.watch(PODS, field_selector=SELECTOR, trim=trimmed, stop=stop):
                self._put(event.object, gone=event.type == "DELETED")
        except Exception as error:  # noqa: BLE001 - raised by the loop: a watchdog with one eye shut would stay healthy
            self.failure = error

    def all(self) -> tuple[PodFacts, ...]:
        """Every pod's facts."""
        with self._lock:
            pods = [pod.facts for pod in self._pods.values()]
        return tuple(map(self.claims.with_budget, pods))

    def find(self, uid: str) -> WatchedPod | None:
        """The pod with that uid, as far as the cache knows."""
        with self._lock:
            pod = self._pods.get(uid)
        return None if pod is None else replace(pod, facts=self.claims.with_budget(pod.facts))

    def fresh(self, node: str) -> tuple[PodFacts, ...]:
        """The pods of one node as the API has them at this moment; the cache learns from it.

        Raises:
            ClusterError: the API refused or did not answer.
        """
        with self._lock:
            before = {uid for uid, pod in self._pods.items() if pod.facts.node == node}
        listed = self._cluster.list(PODS, field_selector=f"spec.nodeName={node}")
        found = [pod for pod in (watched_pod(one, self._reading) for one in listed) if pod is not None]
        self._learn(before, found)
        self.claims.refresh()
        return tuple(self.claims.with_budget(pod.facts) for pod in found)

    def _put(self, pod: Manifest, *, gone: bool) -> None:
        uid = str(pod["metadata"]["uid"])
        watched = None if gone else watched_pod(pod, self._reading)
        with self._lock:
            if watched is not None:
                self._take(watched)
            elif self._pods.pop(uid, None) is not None:
                self._gone.append(uid)

    def _learn(self, before: set[str], found: Iterable[WatchedPod]) -> None:
        """What a list shows; the watch may have told of newer things while it was answered."""
        with self._lock:
            for pod in found:
                before.discard(pod.facts.uid)
                if pod.facts.uid not in self._gone:
                    self._take(pod)
            for uid in before:
                self._pods.pop(uid, None)

    def _take(self, pod: WatchedPod) -> None:
        known = self._pods.get(pod.facts.uid)
        if known is None or known.version <= pod.version:
            self._pods[pod.facts.uid] = pod
