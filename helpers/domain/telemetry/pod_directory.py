"""Pods as attribution needs them: whose container an id is, and what each container declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.domain.errors import QuantityError
from helpers.domain.pod_phase import ENDED
from helpers.domain.quantity import Quantity
from helpers.domain.telemetry.cgroup_paths import CgroupPlace
from helpers.domain.telemetry.reading import Budget

# Static pods: the kubelet and the cgroup use the manifest's hash, the API's mirror object has a uid of its own.
_STATIC_UID_ANNOTATIONS = ("kubernetes.io/config.hash", "kubernetes.io/config.mirror")
# The container toolkit's hook does nothing, in silence, unless both are set.
LIMIT_VARIABLES = ("NVIDIA_GPU_MEMORY_REQUEST", "NVIDIA_GPU_MEMORY_LIMIT")


@dataclass(frozen=True)
class ContainerRef:
    """A container by name. `limit_variables` counts how many of the two memory variables it sets."""

    namespace: str
    pod: str
    container: str
    limit_variables: int = 0


@dataclass(frozen=True)
class UnreadableBudget:
    """A limit that is no exact whole number of MiB, and why."""

    namespace: str
    pod: str
    container: str
    reason: str


@dataclass(frozen=True)
class PodDirectory:
    """`{container id: container}`, `{pod uid: pod}` and the declared budgets of one node's pods."""

    containers: Mapping[str, ContainerRef] = field(default_factory=dict)
    pods: Mapping[str, ContainerRef] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    unreadable: tuple[UnreadableBudget, ...] = ()

    def find(self, places: Iterable[CgroupPlace]) -> tuple[CgroupPlace, ContainerRef] | None:
        """The first place that is a known container; else the first known pod, its container unnamed."""
        ordered = tuple(places)
        for place in ordered:
            container = self.containers.get(place.container_id) if place.container_id else None
            # The id must lie below its own pod: a path that claims another pod's is not believed.
            if container is not None and self._agrees(place, container):
                return place, container
        for place in ordered:
            pod = self.pods.get(place.pod_uid) if place.pod_uid else None
            if pod is not None:
                return place, pod
        return None

    def _agrees(self, place: CgroupPlace, container: ContainerRef) -> bool:
        if not place.pod_uid:
            return True
        pod = self.pods.get(place.pod_uid)
        return pod is not None and (pod.namespace, pod.pod) == (container.namespace, container.pod)


def read_pods(
    pods: Iterable[Mapping[str, Any]], resource: str, claimed: Mapping[tuple[str, str], int] | None = None
) -> PodDirectory:
    """The directory of `pods` (Pod objects); budgets are the containers' limits of `resource`, or their claims.

    A budget that cannot be read is listed in `unreadable`, never taken as 0. `claimed` is `{(namespace, claim): MiB}`
    of the claims that are prepared on this node; a container without a limit has its claims' sum.
    """
    containers: dict[str, ContainerRef] = {}
    by_uid: dict[str, ContainerRef] = {}
    # By name: two pods of one name (a kubelet may still hold the one before) would be one series twice,
    # and Prometheus refuses the whole scrape then.
    budgets: dict[tuple[str, str, str], Budget] = {}
    unreadable: list[UnreadableBudget] = []
    for pod in pods:
        metadata = pod.get("metadata", {})
        namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
        for uid in _uids(metadata):
            by_uid[uid] = ContainerRef(namespace, name, "")
        limits_set = _limit_variables(pod.get("spec", {}))
        for container, container_id in _container_ids(pod.get("status", {})):
            containers[container_id] = ContainerRef(namespace, name, container, limits_set.get(container, 0))
        if pod.get("status", {}).get("phase") in ENDED:
            continue
        for container, text in _limits(pod, resource):
            try:
                mib = Quantity.parse(text).as_count(f"pod {namespace}/{name} container {container} limit {resource}")
                budgets[namespace, name, container] = Budget(namespace, name, container, mib)
            except QuantityError as error:
                unreadable.append(UnreadableBudget(namespace, name, container, str(error)))
        for container, mib in _claimed(pod, namespace, claimed or {}):
            budgets.setdefault((namespace, name, container), Budget(namespace, name, container, mib))
    return PodDirectory(containers, by_uid, tuple(budgets.values()), tuple(unreadable))


def _claimed(
    pod: Mapping[str, Any], namespace: str, claimed: Mapping[tuple[str, str], int]
) -> Iterable[tuple[str, int]]:
    """Containers with claims among `claimed`, and MiB of each."""
    made = {
        one["name"]: one.get("resourceClaimName") for one in pod.get("status", {}).get("resourceClaimStatuses") or ()
    }
    spec = pod.get("spec", {})
    names = {
        one["name"]: one.get("resourceClaimName") or made.get(one["name"]) for one in spec.get("resourceClaims") or ()
    }
    for container in spec.get("containers") or ():
        used = [names.get(one["name"]) for one in (container.get("resources") or {}).get("claims") or ()]
        known = [claimed[namespace, name] for name in used if name and (namespace, name) in claimed]
        if known:
            yield str(container["name"]), sum(known)


def _uids(metadata: Mapping[str, Any]) -> list[str]:
    annotations = metadata.get("annotations") or {}
    found = [metadata.get("uid"), *(annotations.get(key) for key in _STATIC_UID_ANNOTATIONS)]
    return [str(uid) for uid in found if uid]


def _container_ids(status: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Ids as `<runtime>://<id>`; a container that was restarted may still own memory under its last id."""
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(key) or ():
            last = ((one.get("lastState") or {}).get("terminated") or {}).get("containerID")
            for text in (last, one.get("containerID")):
                if text:
                    yield str(one["name"]), str(text).rpartition("://")[2]


def _limits(pod: Mapping[str, Any], resource: str) -> Iterable[tuple[str, str]]:
    """Containers that count now: an init container's limit counts while it runs, a sidecar's always."""
    spec = pod.get("spec", {})
    running = {
        one["name"]
        for one in pod.get("status", {}).get("initContainerStatuses") or ()
        if "running" in (one.get("state") or {})
    }
    inits = [
        one
        for one in spec.get("initContainers") or ()
        if one.get("restartPolicy") == "Always" or one.get("name") in running
    ]
    for container in [*inits, *(spec.get("containers") or ())]:
        text = ((container.get("resources") or {}).get("limits") or {}).get(resource)
        if text is not None:
            yield str(container["name"]), text


def _limit_variables(spec: Mapping[str, Any]) -> dict[str, int]:
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return {
        str(one["name"]): sum(env.get("name") in LIMIT_VARIABLES for env in one.get("env") or ()) for one in containers
    }
