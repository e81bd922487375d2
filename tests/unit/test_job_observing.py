"""What a Job and its pods say together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.adapters.job_engines.documents import PLACE_SECONDS
from helpers.adapters.job_engines.observing import disruption_of, observed, trimmed_job, trimmed_pod, unmade_count
from helpers.domain.jobs.observation import Phase

NOW = datetime(2026, 6, 2, 12, tzinfo=UTC)


def stamp(seconds_ago: float) -> str:
    return (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_job(*conditions: dict[str, str], suspend: bool = False, workers: int = 1, **metadata: Any) -> dict[str, Any]:
    pod_spec = {"containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    spec = {"suspend": suspend, "parallelism": workers, "template": {"spec": pod_spec}}
    head = {"name": "gpu-job-1", "namespace": "vision", "uid": "u", **metadata}
    status = {"conditions": [{"status": "True", "lastTransitionTime": stamp(5), **one} for one in conditions]}
    return trimmed_job({"apiVersion": "batch/v1", "kind": "Job", "metadata": head, "spec": spec, "status": status})


def let_go(seconds_ago: float, workers: int = 1, **counts: Any) -> dict[str, Any]:
    """A Job that was let go so long ago, with its controller's counts."""
    found = a_job(workers=workers)
    return {**found, "status": {**found["status"], "startTime": stamp(seconds_ago), **counts}}


def a_pod(phase: str = "Running", node: str = "a100-0", **status: Any) -> dict[str, Any]:
    head = {"name": "gpu-job-1-x", "namespace": "vision", "uid": "p"}
    spec = {"nodeName": node, "containers": [{"name": "main"}]}
    return trimmed_pod(
        {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec, "status": {"phase": phase, **status}}
    )


def unscheduled(seconds_ago: float) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/6 nodes are available"}
    return a_pod("Pending", "", conditions=[condition | {"lastTransitionTime": stamp(seconds_ago)}])


def waiting(reason: str, seconds_ago: float) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "no such image"}}
    return a_pod("Pending", containerStatuses=[{"state": state}], startTime=stamp(seconds_ago))


DISRUPTED = {"type": "Failed", "reason": "PodFailurePolicy", "message": "Pod x has condition DisruptionTarget matching"}


@pytest.mark.parametrize(
    ("job", "pods", "phase", "reason"),
    [
        (a_job(suspend=True), [], Phase.HELD, ""),
        (a_job(), [], Phase.STARTING, "0 of 1 pods run"),
        (a_job(), [unscheduled(5)], Phase.STARTING, "0/6 nodes are available"),
        (a_job(), [unscheduled(PLACE_SECONDS + 1)], Phase.PREEMPTED, "has waited 600 s"),
        (a_job(), [waiting("ImagePullBackOff", 5)], Phase.STARTING, "ImagePullBackOff: no such image"),
        (a_job(), [waiting("ImagePullBackOff", PLACE_SECONDS + 1)], Phase.FAILED, "has waited 600 s: ImagePullBackOff"),
        (a_job(), [waiting("CreateContainerConfigError", PLACE_SECONDS + 1)], Phase.FAILED, "ConfigError: no such"),
        (let_go(PLACE_SECONDS - 1), [], Phase.STARTING, "0 of 1 pods run"),
        (let_go(PLACE_SECONDS), [], Phase.FAILED, "1 of its 1 pods could not be made for 600 s"),
        (let_go(PLACE_SECONDS, 3, active=1), [a_pod()], Phase.FAILED, "2 of its 3 pods could not be made"),
        (
            a_job({"type": "Failed", "reason": "BackoffLimitExceeded"}),
            [a_pod("Failed", reason="DeadlineExceeded")],
            Phase.FAILED,
            "max_duration: ",
        ),
        (a_job(), [a_pod()], Phase.RUNNING, "all 1 pods run"),
        (a_job(workers=2), [a_pod()], Phase.STARTING, "1 of 2 pods run"),
        (a_job(workers=2), [a_pod(), a_pod("Succeeded")], Phase.RUNNING, "all 2 pods run"),
        (a_job({"type": "Complete"}), [], Phase.SUCCEEDED, ""),
        (a_job({"type": "Complete", "status": "False"}), [a_pod()], Phase.RUNNING, ""),
        (a_job({"type": "FailureTarget"}), [a_pod()], Phase.RUNNING, ""),
        (a_job(DISRUPTED), [], Phase.PREEMPTED, "DisruptionTarget"),
        (a_job({"type": "Failed", "reason": "BackoffLimitExceeded", "message": "x"}), [], Phase.FAILED, "Exceeded: x"),
        (a_job({"type": "Failed", "reason": "DeadlineExceeded"}), [], Phase.FAILED, "max_duration: "),
        (a_job({"type": "Complete"}, deletionTimestamp=stamp(1)), [], Phase.ABSENT, ""),
    ],
)
def test_what_is_seen(job: dict[str, Any], pods: list[dict[str, Any]], phase: Phase, reason: str) -> None:
    found = observed(job, pods, NOW)
    assert found.phase is phase
    assert reason in found.reason


def test_only_what_would_hold_its_cards_on_is_hopeless() -> None:
    assert observed(a_job(), [waiting("ErrImagePull", PLACE_SECONDS + 1)], NOW).hopeless
    assert not observed(a_job({"type": "Failed", "reason": "BackoffLimitExceeded"}), [], NOW).hopeless


def test_a_failure_names_pod_and_exit_code() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pod = a_pod("Failed", containerStatuses=[{"state": ended}])
    failed = a_job({"type": "Failed", "reason": "BackoffLimitExceeded", "message": "x"})
    assert observed(failed, [pod], NOW).reason == "gpu-job-1-x ended with exit code 137 (OOMKilled)"


def test_a_lost_place_says_why_though_the_pod_is_gone() -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for x"}
    why = disruption_of(a_pod("Failed", conditions=[condition]))
    assert why == "gpu-job-1-x on a100-0: PreemptionByScheduler: for x"
    assert disruption_of(a_pod()) == ""
    assert observed(a_job(DISRUPTED), [], NOW, why).reason == why


def test_a_job_runs_since_its_last_pod_has_its_place() -> None:
    def bound(seconds_ago: float) -> dict[str, Any]:
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(seconds_ago)}
        return a_pod(conditions=[condition])

    assert observed(a_job(workers=2), [bound(9), bound(7)], NOW).at == NOW - timedelta(seconds=7)
    assert observed(a_job({"type": "Complete"}), [], NOW).at == NOW - timedelta(seconds=5)
    assert observed(a_job(), [a_pod()], NOW).nodes == ("a100-0",)
    # A node for each pod, so that a gang is seen where it is; one that is over holds nothing there.
    assert observed(a_job(), [a_pod(), a_pod(), a_pod(phase="Succeeded")], NOW).nodes == ("a100-0", "a100-0")


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        # Either side may be behind: the pods are made and the Job's counts are old, or the other way round.
        (let_go(9999, 2, active=1), [a_pod(), a_pod("Pending", "")]),
        (let_go(9999, 2, active=2), [a_pod()]),
        # What is over was made, also when it is cleared away.
        (let_go(9999, 2, active=1, succeeded=1), [a_pod()]),
        (let_go(9999, 2, active=1, uncountedTerminatedPods={"succeeded": ["p"]}), [a_pod()]),
        (let_go(9999, 2, active=1), [a_pod(), a_pod("Succeeded")]),
        (let_go(9999, 1, terminating=1), []),
        (let_go(9999, 2, conditions=[{"type": "FailureTarget", "status": "True"}]), []),
        (a_job(workers=2), []),
    ],
)
def test_a_pod_that_was_made_is_not_missing(job: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    assert unmade_count(job, pods, NOW) == 0
    assert observed(job, pods, NOW).phase in (Phase.STARTING, Phase.RUNNING)


def test_in_a_queue_of_pods_nobody_without_a_node_is_late() -> None:
    """And a gang gets its nodes one after another."""
    late = unscheduled(PLACE_SECONDS + 1)
    for pods in ([late], [a_pod("Pending"), late], []):
        seen = observed(let_go(9999, 2, active=len(pods)), pods, NOW, queues_pods=True)
        assert (seen.phase, seen.hopeless) == (Phase.STARTING, False)
    stuck = waiting("ImagePullBackOff", PLACE_SECONDS + 1)
    assert observed(a_job(), [stuck], NOW, queues_pods=True).hopeless
