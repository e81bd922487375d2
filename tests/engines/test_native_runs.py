"""The native engine on real objects: what a job goes through, through the real scheduler."""

from __future__ import annotations

import json

import pytest

from helpers.domain.jobs.problems import RequestInvalid
from lab.cluster import Lab
from lab.jobs import LabManager
from lab.waiting import wait_for
from tests.engines.scene import job_object, pods_of

pytestmark = pytest.mark.lab

WHOLE_LIFE = ["submitted", "queued", "provisioning", "running", "completed"]


def test_a_job_runs_to_its_end(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(project="vision", gpus=2, seconds=0.5, log="epoch 1\nepoch 2")
    manager.until_over(job_id)
    assert manager.history(job_id) == WHOLE_LIFE
    (pod,) = pods_of(jobs_lab, "vision")
    assert pod["spec"]["nodeName"].startswith("a100-")
    assert pod["spec"]["priorityClassName"] == "gpu-medium"
    assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert manager.engine.logs(manager.job(job_id), tail_lines=1, worker=0) == "epoch 2\n"


def test_a_job_waits_suspended_and_without_pods_until_it_is_let_go(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(project="vision")
    manager.loop.drain()
    assert job_object(jobs_lab, "vision", job_id)["spec"]["suspend"] is True
    assert pods_of(jobs_lab, "vision") == []
    manager.until_over(job_id)


def test_a_program_that_fails_says_how(manager: LabManager) -> None:
    job_id = manager.submit(project="text", seconds=0.2, exit_code=3)
    manager.until_over(job_id)
    assert manager.history(job_id)[-1] == "failed"
    assert "ended with exit code 3" in manager.job(job_id).reason


@pytest.mark.parametrize(("exit_code", "ended"), [(0, "completed"), (3, "failed")])
def test_a_job_that_nobody_saw_running_is_paid_for(
    jobs_lab: Lab, manager: LabManager, exit_code: int, ended: str
) -> None:
    job_id = manager.submit(project="text", seconds=3, exit_code=exit_code)
    manager.until(lambda: manager.statuses(job_id) == ["provisioning"])

    def is_over() -> bool:
        conditions = job_object(jobs_lab, "text", job_id)["status"].get("conditions") or ()
        return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)

    wait_for(is_over)
    manager.until_over(job_id)
    assert manager.history(job_id) == [*WHOLE_LIFE[:-1], ended]
    job = manager.job(job_id)
    assert job.held_seconds >= 2  # the cluster's stamps have whole seconds
    assert job.cost_usd > 0


def test_mib_of_a_shared_card_are_a_budget_and_a_share(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(
        project="speech", gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 4000},
        container={"image": "registry.example.com/train:1", "env": {"LAB_EXIT_AFTER_SECONDS": "0.2"}},
    )  # fmt: skip
    manager.until_over(job_id)
    assert manager.history(job_id) == WHOLE_LIFE
    (pod,) = pods_of(jobs_lab, "speech")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {
        "example.com/gpumem": "4k",
        "nvidia.com/gpu.shared": "1",
    }
    assert pod["spec"]["nodeName"] == "t4"


def test_mig_instances_are_taken_one_by_one(jobs_lab: Lab, manager: LabManager) -> None:
    asked = {"gpu_type": "A100", "gpu_memory_gb": 80, "mig_profile": "1g.10gb"}
    eight = [manager.submit(project="vision", seconds=None, gpu_requirements=asked) for _ in range(8)]
    manager.until(lambda: manager.statuses(*eight) == ["running"] * 7 + ["queued"])
    pods = pods_of(jobs_lab, "vision")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"mig"}
    assert pods[0]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}
    manager.desk.cancel(eight[0], "alice")
    manager.until(lambda: manager.statuses(*eight) == ["cancelled"] + ["running"] * 7)


@pytest.mark.parametrize("is_running", [False, True])
def test_a_cancelled_job_leaves_nothing_behind(jobs_lab: Lab, manager: LabManager, is_running: bool) -> None:
    job_id = manager.submit(project="vision", seconds=None)
    manager.loop.drain()
    if is_running:
        manager.until(lambda: manager.statuses(job_id) == ["running"])
    manager.desk.cancel(job_id, "bob")
    manager.loop.turn()
    assert job_object(jobs_lab, "vision", job_id) is None
    wait_for(lambda: pods_of(jobs_lab, "vision") == [])
    assert manager.history(job_id)[-1] == "cancelled"


def test_a_limit_ends_a_job_with_the_reason_and_a_warning_before(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(project="vision", seconds=None, max_duration_hours=10 / 3600)
    manager.until_over(job_id)
    history = manager.history(job_id)
    assert history[-2:] == ["warning", "failed"]
    assert manager.job(job_id).reason.startswith("max_duration: ")
    manager.until(lambda: job_object(jobs_lab, "vision", job_id) is None)


def test_each_act_is_an_event_on_the_job(jobs_lab: Lab, manager: LabManager) -> None:
    job_id = manager.submit(project="vision", seconds=None)
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    manager.desk.cancel(job_id, "bob")
    manager.loop.turn()

    def reasons() -> list[str]:
        found = jobs_lab.api().get("/api/v1/namespaces/vision/events")["items"]
        return [
            one["reason"]
            for one in found
            if one["involvedObject"]["name"] == job_id and one["source"].get("component") == "gpumem-manager"
        ]

    wait_for(lambda: sorted(reasons()) == ["JobHeld", "JobLetGo", "JobRemoved"])


def test_a_running_job_is_told_to_save_its_state(jobs_lab: Lab, manager: LabManager) -> None:
    hook = {"http_path": "/save", "http_port": 8080}
    job_id = manager.submit(project="vision", seconds=None, workers=2, checkpoint=hook)
    manager.until(lambda: manager.statuses(job_id) == ["running"])
    manager.until(lambda: manager.engine.ask_checkpoint(manager.job(job_id)) is not None)
    asked = [json.loads(line) for line in (jobs_lab.dir / "hooks.jsonl").read_text().splitlines()]
    assert {(one["path"], one["method"]) for one in asked} == {("/save", "POST")}
    assert len({one["pod"] for one in asked}) == 2
    manager.desk.cancel(job_id, "bob")
    manager.loop.turn()


def test_what_no_node_has_is_refused_at_once(manager: LabManager) -> None:
    for asked, place in (
        ({"gpus": 9}, "gpu_requirements.gpu_count"),
        ({"memory_gb": 40}, "gpu_requirements"),
        ({"gpu": "A10G", "memory_gb": 24}, "gpu_requirements"),
    ):
        with pytest.raises(RequestInvalid, match=place) as refused:
            manager.submit(**asked)
        assert "the estate has" in str(refused.value) or "has 8" in str(refused.value)
