"""Whose turn it is, on real objects: priority, fair share, gangs, and places that are lost."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from functools import partial

import pytest

from lab.cluster import Lab
from lab.jobs import LabManager
from tests.engines.scene import evict, job_object, pods_of

pytestmark = pytest.mark.lab


def is_running(manager: LabManager, job_id: str, attempt: int) -> bool:
    found = manager.job(job_id)
    return (found.attempt_count, found.status) == (attempt, "running")


WEIGHTS = {"vision": 1, "speech": 1, "text": 2, "ml-research": 4}


def started_at(manager: LabManager, job_id: str) -> datetime:
    found = manager.job(job_id).first_started_at
    assert found is not None
    return found


def test_the_more_urgent_go_first(manager: LabManager) -> None:
    asked = {"gpu": "L40S", "memory_gb": None, "gpus": 8, "seconds": 1.2}
    before = manager.submit(**asked)
    manager.until(lambda: manager.statuses(before) != ["pending"])
    order = [manager.submit(priority=word, **asked) for word in ("low", "medium", "high")]
    manager.until_over(before, *order)
    low, medium, high = (started_at(manager, job_id) for job_id in order)
    assert started_at(manager, before) <= high < medium < low


def test_projects_get_their_shares(manager: LabManager) -> None:
    """Sixteen cards, weights 1:1:2:4, and jobs in proportion, so that all projects want cards until the end."""
    jobs = {
        manager.submit(project=project, seconds=1.0): project
        for project, weight in WEIGHTS.items()
        for _ in range(6 * weight)
    }
    held: Counter[str] = Counter()

    def sampled() -> bool:
        waiting: Counter[str] = Counter()
        holding: Counter[str] = Counter()
        for row in manager.store.queue():
            (holding if row.status in ("provisioning", "running") else waiting)[row.project_id] += 1
        if all(waiting[project] for project in WEIGHTS):
            held.update(holding)
        return not waiting and not holding

    manager.until(sampled)
    assert set(manager.statuses(*jobs)) == {"completed"}
    total, weights = sum(held.values()), sum(WEIGHTS.values())
    for project, weight in WEIGHTS.items():
        assert held[project] / total == pytest.approx(weight / weights, abs=0.05)


def test_a_gang_starts_together_or_not_at_all(jobs_lab: Lab, manager: LabManager) -> None:
    """Eight workers want eight cards, and one is taken: none of them starts before it is free."""
    one = manager.submit(project="vision", gpu="L40S", memory_gb=None, seconds=None)
    manager.until(lambda: manager.statuses(one) == ["running"])
    gang = manager.submit(project="text", gpu="L40S", memory_gb=None, seconds=None, workers=8)
    for _ in range(5):
        manager.loop.turn()
    assert manager.statuses(gang) == ["queued"]
    assert pods_of(jobs_lab, "text") == []
    manager.desk.cancel(one, "alice")
    manager.until(lambda: manager.statuses(gang) == ["running"])
    assert [pod["status"]["phase"] for pod in pods_of(jobs_lab, "text")] == ["Running"] * 8
    manager.desk.cancel(gang, "alice")
    manager.loop.turn()


def test_a_gang_is_not_let_go_on_cards_that_are_scattered(jobs_lab: Lab, manager: LabManager) -> None:
    """Twelve A100 are free, and two workers want five each: but on one of the nodes are only four."""
    one = manager.submit(project="vision", gpus=4, seconds=None)
    manager.until(lambda: manager.statuses(one) == ["running"])
    gang = manager.submit(project="text", gpus=5, workers=2, seconds=None)
    small = manager.submit(project="speech", gpus=1, seconds=0.2)
    for _ in range(5):
        manager.loop.turn()
    assert manager.statuses(gang) == ["queued"]
    assert pods_of(jobs_lab, "text") == []
    manager.until_over(small)  # two of the twelve are nobody's
    manager.desk.cancel(one, "alice")
    manager.until(lambda: manager.statuses(gang) == ["running"])
    assert {pod["spec"]["nodeName"] for pod in pods_of(jobs_lab, "text")} == {"a100-0", "a100-1"}
    manager.desk.cancel(gang, "alice")
    manager.loop.turn()


SPOT = {"gpu": "H100", "preemptible": True, "gpus": 2}


def test_an_evicted_job_goes_on_from_its_checkpoint(jobs_lab: Lab, manager: LabManager) -> None:
    hook = {"http_path": "/save"}
    job_id = manager.submit(seconds=1.5, workers=2, checkpoint=hook, **SPOT)
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    first = job_object(jobs_lab, "vision", job_id)
    pod = pods_of(jobs_lab, "vision")[0]
    assert pod["spec"]["nodeName"] == "h100-spot"
    evict(jobs_lab, pod)
    manager.until_over(job_id)
    life = ["queued", "provisioning", "running"]
    assert manager.history(job_id) == ["submitted", *life, "preempted", *life, "completed"]
    told = [event.message for event in manager.store.events(["vision"], job_id=job_id, after_sequence=0, limit=50)]
    (lost,) = [text for text in told if "of work are lost" in text]
    assert "EvictionByEvictionAPI" in lost
    assert "retry 1 of 3 on spot capacity" in lost
    second = job_object(jobs_lab, "vision", job_id)
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    env = {one["name"]: one["value"] for one in second["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["GPUMEM_JOB_ATTEMPT"] == "2"


def test_after_three_retries_it_goes_on_with_on_demand(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(seconds=None, **SPOT)
    places = []
    for attempt in range(1, 6):
        manager.until(partial(is_running, manager, job_id, attempt))
        (pod,) = [one for one in pods_of(jobs_lab, "vision") if one["status"]["phase"] == "Running"]
        places.append(pod["spec"]["nodeName"])
        if attempt < 5:
            evict(jobs_lab, pod)
    assert places == ["h100-spot"] * 4 + ["h100"]
    assert manager.job(job_id).capacity == "on-demand"
    manager.desk.cancel(job_id, "alice")
    manager.loop.turn()


def test_a_job_whose_node_is_taken_back_goes_on_elsewhere(jobs_lab: Lab, manager: LabManager) -> None:
    """The only spot machine is taken back, so that the job goes on with on-demand."""
    job_id = manager.submit(seconds=None, **SPOT)
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    node = "/api/v1/nodes/h100-spot"
    jobs_lab.api().patch(node, {"spec": {"taints": [{"key": "cloud.example.com/taken-back", "effect": "NoExecute"}]}})
    try:
        manager.until(partial(is_running, manager, job_id, 2))
        history = manager.history(job_id)
        assert history[4:] == ["preempted", "queued", "capacity", "provisioning", "running"]
        assert [pod["spec"]["nodeName"] for pod in pods_of(jobs_lab, "vision")] == ["h100"]
    finally:
        jobs_lab.api().patch(node, {"spec": {"taints": None}})
    manager.desk.cancel(job_id, "alice")
    manager.loop.turn()
