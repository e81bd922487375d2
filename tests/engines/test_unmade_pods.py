"""Jobs whose pods the API server does not take: they give their cards back, and say why."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from helpers.adapters.job_engines import observing
from lab.cluster import Lab
from lab.jobs import BETWEEN_SECONDS, LabManager
from lab.waiting import wait_for
from tests.engines.scene import job_object, pods_of, quota

pytestmark = pytest.mark.lab

SOON_SECONDS = 3


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of ten minutes."""
    monkeypatch.setattr(observing, "PLACE_SECONDS", SOON_SECONDS)


def counted(manager: LabManager, job_id: str, kind: str, count: int) -> Callable[[], bool]:
    return lambda: manager.history(job_id).count(kind) == count


def test_a_job_that_a_quota_wants_other_requests_of_fails_with_its_words(jobs_lab: Lab, manager: LabManager) -> None:
    with quota(jobs_lab, "vision", {"requests.cpu": "4"}):
        job_id = manager.submit(project="vision", seconds=None, workers=2)
        manager.until_over(job_id)
        job = manager.job(job_id)
        assert manager.history(job_id) == ["submitted", "queued", "provisioning", "failed"]
        assert job.reason.startswith(f"2 of its 2 pods could not be made for {SOON_SECONDS} s: Error creating: pods ")
        assert "must specify requests.cpu" in job.reason
        manager.until(lambda: job_object(jobs_lab, "vision", job_id) is None)


def test_a_gang_of_which_a_full_quota_takes_one_waits_again_and_goes_on(jobs_lab: Lab, manager: LabManager) -> None:
    """And nobody else is kept from the cards meanwhile."""
    with quota(jobs_lab, "text", {"pods": "1"}):
        job_id = manager.submit(project="text", seconds=None, workers=2)
        manager.until(counted(manager, job_id, "preempted", 1))
        (why,) = [
            event.message
            for event in manager.store.events(["text"], job_id=job_id, after_sequence=0, limit=50)
            if event.kind == "preempted"
        ]
        assert why.startswith(f"1 of its 2 pods could not be made for {SOON_SECONDS} s: ")
        assert "exceeded quota: of-a-test, requested: pods=1, used: pods=1, limited: pods=1" in why
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    assert manager.job(job_id).attempt_count >= 2
    manager.desk.cancel(job_id, "alice")
    manager.loop.turn()


def test_a_gang_that_runs_longer_than_that_is_left_alone(jobs_lab: Lab, manager: LabManager) -> None:
    """Also when one of its workers has ended and its pod is cleared away."""
    job_id = manager.submit(project="vision", seconds=None, workers=2)
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    pods = pods_of(jobs_lab, "vision")
    ended = pods[0]["metadata"]["name"]
    jobs_lab.api().patch(
        f"/api/v1/namespaces/vision/pods/{ended}/status", {"status": {"phase": "Succeeded", "conditions": []}}
    )
    wait_for(lambda: job_object(jobs_lab, "vision", job_id)["status"].get("succeeded") == 1)
    jobs_lab.api().delete(f"/api/v1/namespaces/vision/pods/{ended}", {"gracePeriodSeconds": 0})
    wait_for(partial(_only, jobs_lab, pods[1]["metadata"]["name"]))
    until_seconds = time.monotonic() + SOON_SECONDS + 1
    while time.monotonic() < until_seconds:
        manager.loop.turn()
        time.sleep(BETWEEN_SECONDS)
    assert manager.history(job_id) == ["submitted", "queued", "provisioning", "running"]
    manager.desk.cancel(job_id, "alice")
    manager.loop.turn()


def _only(lab: Lab, name: str) -> bool:
    return [pod["metadata"]["name"] for pod in pods_of(lab, "vision")] == [name]
