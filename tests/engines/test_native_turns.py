"""Whose turn it is, on real objects: priority, fair share, gangs, and places that are lost."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from helpers.domain.estate.model import Estate
from helpers.domain.jobs.ordering import Policy
from helpers.domain.jobs.problems import RequestInvalid
from lab.cluster import Lab
from lab.jobs import BETWEEN_SECONDS, LabManager, lab_manager, settings_of
from tests.engines.scene import evict, job_object, pods_of, remove_jobs
from tests.fakes.outside import FakeLog

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


def test_a_wide_job_has_a_node_kept_and_others_go_past_it(jobs_lab: Lab, manager: LabManager) -> None:
    """Three cards are free on each node, and one worker wants six. On the node that it gets, it will not need two."""
    first, other = (manager.submit(gpus=5, seconds=None, max_duration_hours=hours) for hours in (1, 9))
    manager.until(lambda: manager.statuses(first, other) == ["running", "running"])
    node = {pod["metadata"]["labels"]["job-name"]: pod["spec"]["nodeName"] for pod in pods_of(jobs_lab, "vision")}
    wide = manager.submit(project="text", gpus=6, seconds=None)
    manager.until(lambda: manager.statuses(wide) == ["queued"])
    small = [manager.submit(project="speech", seconds=None, max_duration_hours=2) for _ in range(6)]

    def beside() -> Counter[str]:
        return Counter(pod["spec"].get("nodeName", "") for pod in pods_of(jobs_lab, "speech"))

    manager.until(lambda: beside()[node[other]] == 3)
    for _ in range(5):
        manager.loop.turn()
        time.sleep(BETWEEN_SECONDS)
    assert manager.statuses(wide) == ["queued"]
    assert beside()[node[first]] <= 2
    assert beside()[node[other]] == 3
    manager.desk.cancel(first, "alice")
    manager.until(lambda: manager.statuses(wide) == ["running"])
    assert [pod["spec"]["nodeName"] for pod in pods_of(jobs_lab, "text")] == [node[first]]
    for job_id in (other, wide, *small):
        manager.desk.cancel(job_id, "alice")
    manager.loop.turn()


SPOT = {"gpu": "H100", "preemptible": True, "gpus": 2}


def test_a_job_that_waits_for_spot_keeps_nobody_from_on_demand(jobs_lab: Lab, manager: LabManager) -> None:
    """The spot node is full, and eight on-demand cards are free."""
    asked = SPOT | {"gpus": 8, "seconds": None}
    busy = manager.submit(**asked)
    manager.until(lambda: manager.statuses(busy) == ["running"])
    first = manager.submit(**asked)
    manager.until(lambda: manager.statuses(first) == ["queued"])
    small = manager.submit(gpu="H100", seconds=None)
    manager.until(lambda: manager.statuses(first, small) == ["queued", "running"])
    assert sorted(pod["spec"]["nodeName"] for pod in pods_of(jobs_lab, "vision")) == ["h100", "h100-spot"]
    for job_id in (busy, first, small):
        manager.desk.cancel(job_id, "alice")
    manager.loop.turn()


def test_under_fifo_age_alone_counts(jobs_lab: Lab, job_estate: Estate, tmp_path: Path) -> None:
    """Submitted while priorities counted; now a new one is refused, and the older goes first, low as it is."""
    url, log = f"sqlite:///{tmp_path}/fifo.db", FakeLog()
    asked = {"gpu": "L40S", "memory_gb": None, "gpus": 8, "seconds": 1.2}
    chosen = settings_of(job_estate)
    try:
        with lab_manager(jobs_lab, chosen.model_copy(update={"policy": Policy.PRIORITY}), url, log) as one:
            before = one.submit(**asked)
            one.until(lambda: one.statuses(before) == ["running"])
            low, high = (one.submit(priority=word, **asked) for word in ("low", "high"))
            one.loop.drain()
        with lab_manager(jobs_lab, chosen.model_copy(update={"policy": Policy.FIFO}), url, log) as fifo:
            with pytest.raises(RequestInvalid, match="the engine native has no priority"):
                fifo.submit(priority="high", **asked)
            fifo.until_over(before, low, high)
            assert started_at(fifo, low) < started_at(fifo, high)
    finally:
        remove_jobs(jobs_lab, job_estate)


def test_an_evicted_job_goes_on_from_its_checkpoint(jobs_lab: Lab, manager: LabManager) -> None:
    hook = {"http_path": "/save"}
    job_id = manager.submit(seconds=6, workers=2, checkpoint=hook, **SPOT)
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
