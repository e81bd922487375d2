"""What a Job and its pods say together. Pure: objects in, an observation out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from helpers.adapters.job_engines.documents import DISRUPTED, PLACE_SECONDS
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.domain.pod_phase import ENDED
from helpers.domain.quantity import Quantity

Object = Mapping[str, Any]

# What the kubelet tries again for ever, with the cards held: no image, no Secret or ConfigMap, no such container.
_NO_START = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
# Conditions of a Job that has ended, and whose pods have not.
_ENDING = ("FailureTarget", "SuccessCriteriaMet")
_KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "annotations", "deletionTimestamp")
_KEPT_OF_POD = ("phase", "podIP", "conditions", "containerStatuses", "startTime", "reason", "message")


def trimmed_job(job: Object) -> dict[str, Any]:
    """The parts of a Job that are read."""
    spec = job.get("spec", {})
    kept = {"suspend": spec.get("suspend", False), "parallelism": spec.get("parallelism", 1), "limits": limits_of(job)}
    return {**_identity(job), "spec": kept, "status": job.get("status", {})}


def trimmed_pod(pod: Object) -> dict[str, Any]:
    """The parts of a pod that are read."""
    status = {key: value for key, value in pod.get("status", {}).items() if key in _KEPT_OF_POD}
    spec = {"nodeName": pod["spec"].get("nodeName", ""), "limits": _container_limits(pod["spec"])}
    return {**_identity(pod), "spec": spec, "status": status}


def limits_of(job: Object) -> dict[str, str]:
    """What one worker may have, of a Job as the API gives it or trimmed."""
    spec = job["spec"]
    return dict(spec["limits"]) if "limits" in spec else _container_limits(spec["template"]["spec"])


def _container_limits(spec: Object) -> dict[str, str]:
    found: Mapping[str, str] = spec["containers"][0].get("resources", {}).get("limits", {})
    return {name: str(amount) for name, amount in found.items()}


def amount_of(limits: Mapping[str, str], resource: str) -> int:
    """How much of `resource` that is; 0 where nothing is asked for."""
    return int(Quantity.parse(limits[resource]).value) if resource in limits else 0


def _identity(found: Object) -> dict[str, Any]:
    metadata = {key: value for key, value in found["metadata"].items() if key in _KEPT_METADATA}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata}


def observed(
    job: Object, pods: Sequence[Object], now_at: datetime, disruption: str = "", *, queues_pods: bool = False
) -> JobObservation:
    """What has become of a Job; `pods`: its own, of this attempt; `disruption`: of one that is gone already.

    `queues_pods`: its pods themselves are in a queue, so that one without a node is not late.
    """
    if "deletionTimestamp" in job["metadata"]:
        return JobObservation(Phase.ABSENT)
    # A pod that is over has given its cards back.
    live = [pod for pod in pods if pod["status"].get("phase") not in ENDED]
    nodes = tuple(sorted(pod["spec"]["nodeName"] for pod in live if pod["spec"]["nodeName"]))
    held = JobObservation(Phase.HELD, nodes=nodes, pods=tuple(sorted(pod["metadata"]["name"] for pod in pods)))
    conditions = {one["type"]: one for one in job["status"].get("conditions") or () if one.get("status") == "True"}
    if done := conditions.get("Complete"):
        return replace(held, phase=Phase.SUCCEEDED, reason="all its pods succeeded", at=_time(done))
    if failed := conditions.get("Failed"):
        phase, reason = _failed(failed, pods, disruption)
        return replace(held, phase=phase, reason=reason, at=_time(failed))
    return held if job["spec"]["suspend"] else _alive(held, job, pods, now_at, queues_pods)


def _failed(condition: Object, pods: Sequence[Object], disruption: str) -> tuple[Phase, str]:
    reason, text = condition.get("reason", ""), condition.get("message", "")
    if reason == "PodFailurePolicy" and DISRUPTED in text:
        return Phase.PREEMPTED, disruption or text
    # The Job's own deadline, or a pod's, which the kubelet counts.
    if reason == "DeadlineExceeded" or any(pod["status"].get("reason") == "DeadlineExceeded" for pod in pods):
        return Phase.FAILED, "max_duration: no manager ended it, so its deadline did"
    return Phase.FAILED, next(_errors(pods), f"{reason}: {text}")


def disruption_of(pod: Object) -> str:
    """Why a pod lost its place; empty: it did not."""
    for one in pod["status"].get("conditions") or ():
        if one["type"] == DISRUPTED and one.get("status") == "True":
            place = f" on {pod['spec']['nodeName']}" if pod["spec"]["nodeName"] else ""
            return f"{pod['metadata']['name']}{place}: {one.get('reason', '')}: {one.get('message', '')}"
    return ""


def _errors(pods: Sequence[Object]) -> Iterator[str]:
    for pod in pods:
        for one in pod["status"].get("containerStatuses") or ():
            ended = one.get("state", {}).get("terminated")
            if ended and ended.get("exitCode"):
                # `Error` says nothing; OOMKilled does.
                why = "" if ended.get("reason") in (None, "", "Error") else f" ({ended['reason']})"
                yield f"{pod['metadata']['name']} ended with exit code {ended['exitCode']}{why}"


def unmade_count(job: Object, pods: Sequence[Object], now_at: datetime) -> int:
    """How many of its pods are not there, though it was let go PLACE_SECONDS ago: the API server does not take them.

    Both must say so, the Job's own counts and the pods: of either one may be told later than of the other.
    """
    status: Mapping[str, Any] = job["status"]
    wanted: int = job["spec"]["parallelism"]
    let_go_at = _at(status.get("startTime"))
    if let_go_at is None or now_at - let_go_at < timedelta(seconds=PLACE_SECONDS):
        return 0
    if any(one["type"] in _ENDING and one.get("status") == "True" for one in status.get("conditions") or ()):
        return 0  # its pods are being taken away
    ending = status.get("uncountedTerminatedPods") or {}
    over: int = sum(status.get(each, 0) + len(ending.get(each) or ()) for each in ("succeeded", "failed"))
    there: int = status.get("active", 0) + status.get("terminating", 0)
    live = sum(pod["status"].get("phase") not in ENDED for pod in pods)
    return max(0, wanted - max(there + over, live + max(over, len(pods) - live)))


def _alive(
    held: JobObservation, job: Object, pods: Sequence[Object], now_at: datetime, queues_pods: bool
) -> JobObservation:
    """Let go, and not over."""
    wanted = job["spec"]["parallelism"]
    # One that is over still counts: workers of a gang need not end in the same second.
    up = [pod for pod in pods if pod["status"].get("phase") in ("Running", "Succeeded")]
    if len(up) >= wanted:
        at = max((at for pod in up for at in _bound(pod)), default=None)
        return replace(held, phase=Phase.RUNNING, reason=f"all {wanted} pods run", at=at)
    if not queues_pods and (unmade := unmade_count(job, pods, now_at)):
        text = f"{unmade} of its {wanted} pods could not be made for {PLACE_SECONDS} s"
        return replace(held, phase=Phase.FAILED, reason=text, hopeless=True)
    late_at = now_at - timedelta(seconds=PLACE_SECONDS)
    found = f"{len(up)} of {wanted} pods run"
    for pod in pods:
        since_at, why = _waits(pod)
        if not why:
            continue
        is_queued = queues_pods and not pod["spec"]["nodeName"]
        if is_queued or since_at is None or since_at >= late_at:
            found = f"{found}; {pod['metadata']['name']}: {why}"
            break
        text = f"{pod['metadata']['name']} has waited {PLACE_SECONDS} s: {why}"
        if _start_problem(pod):
            return replace(held, phase=Phase.FAILED, reason=text, hopeless=True)
        return replace(held, phase=Phase.PREEMPTED, reason=text)
    return replace(held, phase=Phase.STARTING, reason=found)


def _waits(pod: Object) -> tuple[datetime | None, str]:
    """Since when a pod waits, and for what; without a text it does not."""
    status = pod["status"]
    if status.get("phase", "Pending") != "Pending":
        return None, ""
    if problem := _start_problem(pod):
        return _at(status.get("startTime", "")), problem
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one.get("status") == "False":
            return _time(one), one.get("message", "") or one.get("reason", "")
    return None, ""


def _start_problem(pod: Object) -> str:
    for one in pod["status"].get("containerStatuses") or ():
        waiting = one.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _NO_START:
            return f"{waiting['reason']}: {waiting.get('message', '')}".removesuffix(": ")
    return ""


def _bound(pod: Object) -> Iterator[datetime]:
    """When it got its place: from then on it holds its GPUs."""
    for one in pod["status"].get("conditions") or ():
        if one["type"] == "PodScheduled" and one.get("status") == "True" and (at := _time(one)):
            yield at


def _time(condition: Object) -> datetime | None:
    return _at(condition.get("lastTransitionTime", ""))


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
