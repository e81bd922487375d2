"""Pod statuses as a kubelet would write them; pure, and every function gives a strategic merge patch."""

from __future__ import annotations

from dataclasses import dataclass

from lab.api import Object

RUNTIME = "lab-pod-life://"
KILLED_EXIT_CODE = 143  # 128 + SIGTERM


@dataclass(frozen=True)
class Ended:
    """How containers ended; times are RFC 3339."""

    exit_code: int
    started_at: str
    finished_at: str


def running(pod: Object, *, ip: str, at: str, ready: bool, restarts: int, last: Ended | None) -> Object:
    """All containers run since `at`; `last` is how they ended before, if they were restarted."""
    statuses = []
    for container in pod["spec"]["containers"]:
        one = _container(pod, container, {"running": {"startedAt": at}}, restarts) | {"ready": ready, "started": True}
        if last is not None:
            one["lastState"] = {"terminated": _terminated(pod, container, last)}
        statuses.append(one)
    status = {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": pod.get("status", {}).get("startTime", at),
        "conditions": [
            _condition("PodReadyToStartContainers", True, at),
            _condition("Initialized", True, at),
            *_readiness(ready, at, "ContainersNotReady"),
        ],
        "containerStatuses": statuses,
        "initContainerStatuses": _init_statuses(pod, at),
    }
    return _patch(pod, status)


def ended(pod: Object, how: Ended) -> Object:
    """All containers ended and will not be restarted: phase Succeeded or Failed."""
    succeeded = how.exit_code == 0
    status = {
        "phase": "Succeeded" if succeeded else "Failed",
        "conditions": _readiness(False, how.finished_at, "PodCompleted" if succeeded else "PodFailed"),
        "containerStatuses": [
            _container(pod, container, {"terminated": _terminated(pod, container, how)}, 0)
            | {"ready": False, "started": False}
            for container in pod["spec"]["containers"]
        ],
    }
    return _patch(pod, status)


def refused(pod: Object, reason: str, message: str, at: str) -> Object:
    """The containers cannot be made: the pod stays Pending and says why."""
    waiting = {"waiting": {"reason": reason, "message": message}}
    status = {
        "phase": "Pending",
        "startTime": at,
        "conditions": [_condition("Initialized", True, at), *_readiness(False, at, "ContainersNotReady")],
        "containerStatuses": [
            _container(pod, container, waiting, 0) | {"ready": False, "started": False}
            for container in pod["spec"]["containers"]
        ],
    }
    return _patch(pod, status)


def _patch(pod: Object, status: Object) -> Object:
    # The uid makes the patch fail on a later pod of the same name instead of describing it.
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}


def _condition(kind: str, holds: bool, at: str, reason: str = "") -> Object:
    condition = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": at}
    return condition | {"reason": reason or None}  # null takes the reason of an earlier patch away


def _readiness(ready: bool, at: str, reason: str) -> list[Object]:
    return [_condition(kind, ready, at, "" if ready else reason) for kind in ("ContainersReady", "Ready")]


def _container(pod: Object, container: Object, state: Object, restarts: int) -> Object:
    image = container.get("image", "")
    return {
        "name": container["name"],
        "image": image,
        "imageID": image,
        "containerID": _container_id(pod, container),
        "restartCount": restarts,
        "state": state,
    }


def _container_id(pod: Object, container: Object) -> str:
    return f"{RUNTIME}{pod['metadata']['uid']}-{container['name']}"


def _terminated(pod: Object, container: Object, how: Ended) -> Object:
    return {
        "exitCode": how.exit_code,
        "reason": "Completed" if how.exit_code == 0 else "Error",
        "startedAt": how.started_at,
        "finishedAt": how.finished_at,
        "containerID": _container_id(pod, container),
    }


def _init_statuses(pod: Object, at: str) -> list[Object]:
    """Init containers have succeeded at once; those that are sidecars run."""
    statuses = []
    for container in pod["spec"].get("initContainers", []):
        if container.get("restartPolicy") == "Always":
            one = _container(pod, container, {"running": {"startedAt": at}}, 0) | {"ready": True, "started": True}
        else:
            done = {"terminated": _terminated(pod, container, Ended(0, at, at))}
            one = _container(pod, container, done, 0) | {"ready": True, "started": False}
        statuses.append(one)
    return statuses
