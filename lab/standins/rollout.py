"""``wait_for_rollout``: when a workload has settled, by the rules of ``kubectl rollout status``."""

from __future__ import annotations

from collections.abc import Callable

from lab.standins.manifest import JsonObject


def _counts(live: JsonObject) -> Callable[[str], int]:
    status = live.get("status") or {}
    return lambda name: int(status.get(name) or 0)


def _observed(live: JsonObject) -> bool:
    return int(live["metadata"].get("generation") or 0) <= _counts(live)("observedGeneration")


def _deployment(live: JsonObject) -> bool:
    count = _counts(live)
    conditions = (live.get("status") or {}).get("conditions") or []
    late = any(one["type"] == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded" for one in conditions)
    wanted = int(live["spec"].get("replicas", 1))
    return (
        _observed(live)
        and not late
        and count("updatedReplicas") >= wanted
        and count("replicas") <= count("updatedReplicas")
        and count("availableReplicas") >= count("updatedReplicas")
    )


def _daemon_set(live: JsonObject) -> bool:
    count, strategy = _counts(live), live["spec"].get("updateStrategy") or {}
    wanted = count("desiredNumberScheduled")
    if strategy.get("type") != "RollingUpdate":
        return True
    return _observed(live) and count("updatedNumberScheduled") >= wanted and count("numberAvailable") >= wanted


def _stateful_set(live: JsonObject) -> bool:
    count, strategy = _counts(live), live["spec"].get("updateStrategy") or {}
    status, wanted = live.get("status") or {}, int(live["spec"].get("replicas", 1))
    if strategy.get("type") != "RollingUpdate":
        return True
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    if not _observed(live) or count("readyReplicas") < wanted:
        return False
    if partition:
        return count("updatedReplicas") >= wanted - partition
    return status.get("updateRevision") == status.get("currentRevision")


def _api_service(live: JsonObject) -> bool:
    return any(one["type"] == "Available" for one in (live.get("status") or {}).get("conditions") or [])


_RULES: dict[str, Callable[[JsonObject], bool]] = {
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "APIService": _api_service,
}


def settled(live: JsonObject) -> bool:
    """Whether the object's rollout is complete; kinds that do not roll always are."""
    rule = _RULES.get(str(live.get("kind")))
    return rule is None or rule(live)
