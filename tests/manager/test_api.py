"""The API over real HTTP: fields, codes and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import prometheus_client as prometheus
import pytest

from helpers.domain.errors import ClusterError
from helpers.domain.jobs.observation import Capability, Phase
from helpers.domain.jobs.places import Place
from tests.fakes.jobs import EXAMPLE, document, spec
from tests.fakes.manager import SETTINGS, ManagerBench
from tests.manager.scene import ALICE, Scene


def test_the_example_of_the_reference_is_answered_with_its_fields(scene: Scene) -> None:
    scene.callers.allowed |= {("alice", "create", "ml-research")}
    answer = scene.submit(EXAMPLE)
    assert answer.status_code == 201
    found = answer.json()
    assert found["job_id"].startswith("gpu-job-")
    assert (found["status"], found["queue_position"]) == ("pending", 1)
    assert found["created_at"] == "2026-06-02T12:00:00Z"
    # Four 80 GB A100s for 24 hours at most, on demand: more than its own limit of 100 USD.
    assert found["estimated_cost_usd"] == 100.0
    assert found["estimate"]["cost_basis"].startswith("max_duration: 0 measured runs")
    assert answer.headers["Location"] == f"/api/v1/gpu/jobs/{found['job_id']}"


def test_a_job_from_submit_to_end_as_its_user_sees_it(scene: Scene) -> None:
    job_id = scene.submit(document(resources={"memory": "4096Mi"})).json()["job_id"]
    path = f"/api/v1/gpu/jobs/{job_id}"
    scene.bench.turn()
    scene.bench.engine.see(job_id, Phase.RUNNING)
    scene.bench.turn()
    scene.bench.clock.advance(60)
    found = scene.send("GET", path).json()
    assert (found["status"], found["queue_position"], found["attempt_count"]) == ("running", None, 1)
    assert found["gpu_requirements"]["gpu_type"] == "A100"
    assert found["resources"]["memory"] == "4Gi"
    assert found["gpu_seconds"] == 60
    assert scene.send("GET", f"{path}/logs?tail_lines=7").text == "worker 0: the last 7 lines\n"
    scene.bench.engine.see(job_id, Phase.SUCCEEDED)
    scene.bench.turn(3540)
    found = scene.send("GET", path).json()
    assert (found["status"], found["gpu_seconds"]) == ("completed", 3600)
    assert found["cost_usd"] == pytest.approx(3.4309, abs=0.0001)
    kinds = [event["kind"] for event in scene.send("GET", f"{path}/events").json()["events"]]
    assert kinds == ["submitted", "queued", "provisioning", "running", "completed"]
    usage = scene.send("GET", "/api/v1/gpu/projects/vision/usage").json()
    assert (usage["gpu_hours"], usage["cost_usd"], usage["jobs"]) == (1.0, found["cost_usd"], {"completed": 1})
    assert usage["usage"][0]["pool"] == "A100_80GB"


def test_one_key_is_one_job_and_another_body_is_told_both_places(scene: Scene) -> None:
    first = scene.submit(document(), Idempotency_Key="run-1")
    again = scene.submit(document(priority="medium"), Idempotency_Key="run-1")
    assert again.json()["job_id"] == first.json()["job_id"]
    assert (first.status_code, again.status_code) == (201, 201)
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    other = scene.submit(document(priority="high"), Idempotency_Key="run-1")
    assert other.status_code == 409
    (problem,) = other.json()["errors"]
    assert (problem["place"], problem["value"]) == ("Idempotency-Key", "run-1")
    assert first.json()["job_id"] in problem["rule"]


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (document(project_id="Vision", workers=0), ["project_id", "workers"]),
        (document(queue="x", container={"image": "a", "comand": []}), ["container.comand", "queue"]),
        ({}, ["job_name", "project_id", "gpu_requirements", "container"]),
        ([], ["body"]),
        (None, ["body"]),
        (document(workers=10**400), ["workers"]),
    ],
)
def test_a_bad_body_is_told_every_place(scene: Scene, body: Any, places: list[str]) -> None:
    answer = scene.submit(body)
    assert answer.status_code == 422
    assert [problem["place"] for problem in answer.json()["errors"]] == places
    assert all(problem["rule"] and problem["repair"] for problem in answer.json()["errors"])
    assert scene.bench.store.outbox_count() == 0


def test_half_a_character_is_told_without_breaking_the_answer(scene: Scene) -> None:
    content = json.dumps(document(job_name="\ud800"))
    headers = {"Authorization": f"Bearer {ALICE}", "Content-Type": "application/json"}
    answer = scene.client.post("/api/v1/gpu/jobs", content=content, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["place"] == "job_name"


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"1" * 5000, b"1" * 300_000])
def test_what_is_no_json_is_told_so(scene: Scene, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {ALICE}", "Content-Type": "application/json"}
    answer = scene.client.post("/api/v1/gpu/jobs", content=content, headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert answer.json()["errors"][0]["repair"]


def test_a_project_that_the_estate_does_not_declare(scene: Scene) -> None:
    scene.callers.allowed |= {("alice", "create", "audio")}
    answer = scene.submit(document(project_id="audio"))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["repair"] == "use one of: ml-research, text, vision, or declare it"


def test_what_the_engine_lacks_is_refused_by_name(scene: Scene) -> None:
    scene.bench.engine.can = frozenset({Capability.FIFO})
    answer = scene.submit(document(workers=2, priority="low"))
    assert answer.status_code == 422
    assert [problem["rule"] for problem in answer.json()["errors"]] == [
        "the engine fake has no gang; it has: fifo",
        "the engine fake has no priority; it has: fifo",
    ]


def test_more_than_the_quota_can_never_run_and_is_refused(scene: Scene) -> None:
    wish = {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 8}
    (problem,) = scene.submit(document(workers=3, gpu_requirements=wish)).json()["errors"]
    assert problem["rule"] == "project vision may hold 16 GPUs, and this job wants 24"


def test_lists_are_pages_with_filters(scene: Scene) -> None:
    ids = [scene.submit(document(priority=["high", "low"][n % 2])).json()["job_id"] for n in range(5)]
    page = scene.send("GET", "/api/v1/gpu/jobs?limit=2").json()
    seen = [job["job_id"] for job in page["jobs"]]
    while page["next_cursor"]:
        page = scene.send("GET", f"/api/v1/gpu/jobs?limit=2&cursor={page['next_cursor']}").json()
        seen += [job["job_id"] for job in page["jobs"]]
    assert sorted(seen) == sorted(ids)
    low = scene.send("GET", "/api/v1/gpu/jobs?priority=low&status=pending&status=running&job_name=train").json()
    assert len(low["jobs"]) == 2
    assert scene.send("GET", "/api/v1/gpu/jobs?submitted_by=bob").json()["jobs"] == []
    assert scene.send("GET", "/api/v1/gpu/jobs?created_from=2026-06-02T13:00:00Z").json()["jobs"] == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=x", "status=lost", "cursor=x", "created_from=2026-06-02T12:00:00"),
        *(
            "created_to=0001-01-01T00:00:00%2B14:00",
            "job_name=%00",
            "priority=",
            "created_from=9999-12-31T23:59:59-14:00",
        ),
    ],
)
def test_a_bad_filter_is_told(scene: Scene, query: str) -> None:
    answer = scene.send("GET", f"/api/v1/gpu/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["place"].startswith(query.partition("=")[0])


def test_positions_and_starts_are_those_of_the_order(scene: Scene) -> None:
    whole = {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 8}
    ids = [scene.submit(document(gpu_requirements=whole, max_duration_hours=1)).json()["job_id"] for _ in range(3)]
    scene.bench.turn()
    scene.bench.board.look()
    waiting = [scene.send("GET", f"/api/v1/gpu/jobs/{job_id}").json() for job_id in ids]
    assert [job["status"] for job in waiting] == ["provisioning", "queued", "queued"]
    assert [job["queue_position"] for job in waiting] == [None, 1, 2]
    assert [job["estimated_start_time"] for job in waiting[1:]] == ["2026-06-02T13:00:01Z", "2026-06-02T14:00:01Z"]
    assert [job["estimate"]["start_confidence"] for job in waiting[1:]] == ["low", "low"]
    late = scene.submit(document(priority="low")).json()
    assert (late["queue_position"], late["estimate"]["start_confidence"]) == (3, "low")
    (queue,) = scene.send("GET", "/api/v1/gpu/queues").json()["queues"]
    assert (queue["pool"], queue["capacity"], queue["held"], queue["waiting_count"]) == ("A100_80GB", 8, 8, 2)
    assert queue["running_count"] == 0
    quota = scene.send("GET", "/api/v1/gpu/quotas").json()["quotas"]
    assert [(one["project_id"], one["gpus_held"], one["waiting_count"]) for one in quota] == [("vision", 8.0, 2)]


def test_a_job_is_cancelled_once_and_what_is_over_is_not(scene: Scene) -> None:
    job_id = scene.submit(document()).json()["job_id"]
    path = f"/api/v1/gpu/jobs/{job_id}"
    assert scene.send("DELETE", path).json()["status"] == "cancelled"
    assert scene.send("DELETE", path).status_code == 200
    other = scene.submit(document()).json()["job_id"]
    scene.bench.turn()
    scene.bench.engine.see(other, Phase.SUCCEEDED)
    scene.bench.turn()
    answer = scene.send("DELETE", f"/api/v1/gpu/jobs/{other}")
    assert answer.status_code == 409
    assert "is completed and cannot become cancelled" in answer.json()["errors"][0]["rule"]
    entries = scene.bench.store.audit(["vision"], after_sequence=0, limit=9)
    assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
        ("alice", "submit", job_id),
        ("alice", "cancel", job_id),
        ("alice", "submit", other),
    ]


def test_logs_that_are_not_there_yet(scene: Scene) -> None:
    job_id = scene.submit(document()).json()["job_id"]
    answer = scene.send("GET", f"/api/v1/gpu/jobs/{job_id}/logs")
    assert (answer.status_code, answer.json()["errors"][0]["rule"]) == (404, f"no pod of {job_id} is there")
    assert scene.send("GET", f"/api/v1/gpu/jobs/{job_id}/logs?worker=1").status_code == 422
    scene.bench.engine.broken["logs"] = ClusterError("the kubelet does not answer")
    answer = scene.send("GET", f"/api/v1/gpu/jobs/{job_id}/logs")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_prices_are_the_estates(scene: Scene) -> None:
    prices = {row["gpu"]: row for row in scene.send("GET", "/api/v1/gpu/pricing").json()["prices"]}
    assert prices["T4_16GB"]["on_demand_usd_per_hour"] == 0.526
    assert prices["T4_16GB"]["spot_usd_per_hour"] < 0.526


@pytest.mark.parametrize("span", ["from=2026-07-01T00:00:00Z", "from=2020-01-01T00:00:00Z", "to=2019-01-01T00:00:00"])
def test_a_span_that_is_none_is_refused(scene: Scene, span: str) -> None:
    assert scene.send("GET", f"/api/v1/gpu/projects/vision/usage?{span}").status_code == 422


def test_the_process_tells_how_it_is(scene: Scene) -> None:
    assert scene.send("GET", "/healthz", token="").text == "ok\n"
    assert scene.send("GET", "/readyz", token="").text == "ok\n"
    scene.healthy = False
    assert scene.send("GET", "/healthz", token="").status_code == 503
    scene.send("GET", "/api/v1/gpu/jobs/gpu-job-x")
    metrics = prometheus.generate_latest(scene.registry).decode()
    assert 'gpumem_manager_request_seconds_count{code="404",route="GET /api/v1/gpu/jobs/{job_id}"} 1.0' in metrics
    assert scene.send("GET", "/metrics", token="").status_code == 404  # figures by project are not every caller's
    assert scene.send("GET", "/nothing").json()["errors"][0]["place"] == "path"
    assert scene.send("PUT", "/api/v1/gpu/jobs").status_code == 405


def test_a_card_without_a_size_is_answered_with_the_one_that_the_estate_has(tmp_path: Path) -> None:
    places = tuple(
        Place(name=name, gpu_type=name, size_gb=size, selector={}, machine_amount=8, largest_amount=8)
        for name, size in (("A100", 80), ("L4", 24), ("H100", 80))
    )
    bench = ManagerBench(tmp_path, SETTINGS.model_copy(update={"places": places}))
    for gpu_type, size_gb in (("A100", 80), ("L4", 24)):
        asked = spec(gpu_requirements={"gpu_type": gpu_type})
        done = bench.desk.submit(asked, "alice", gpu_type)
        assert done.job.spec.gpu_requirements.gpu_memory_gb == size_gb
        assert bench.job(done.job.job_id) == done.job
        assert not bench.desk.submit(asked, "alice", gpu_type).created
