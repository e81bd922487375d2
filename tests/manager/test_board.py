"""The operations behind the page: cards, money over time, the latest of the history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.domain.errors import ClusterError
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.services.manager_cards import KEPT_SECONDS, CardBoard, gpu_node
from tests.fakes.cluster import FakeCluster
from tests.manager.scene import ALICE, BOB, Scene

BASE = "/api/v1/gpu"


def node(name: str, cards: str, **labels: str) -> dict[str, Any]:
    labels = {f"nvidia.com/gpu.{key}": value for key, value in labels.items()}
    status = {"allocatable": {"nvidia.com/gpu": cards}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


@pytest.fixture
def cluster(scene: Scene) -> FakeCluster:
    """Two nodes with four cards each, and one without."""
    found = FakeCluster()
    for name in ("a", "b"):
        found.add(node(name, "4", product="NVIDIA-A100"))
    found.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "plain"}})
    bench = scene.bench
    scene.world.cards = CardBoard(found, bench.engine, bench.board, bench.clock)
    return found


def run(scene: Scene, job_id: str, *nodes: str) -> None:
    for _ in range(2):
        scene.bench.turn()
    scene.bench.engine.jobs[job_id] = JobObservation(Phase.RUNNING, nodes=nodes)
    scene.bench.turn(KEPT_SECONDS + 1)
    scene.bench.board.look()


def cards(scene: Scene, token: str = ALICE) -> dict[str, list[list[str | None]]]:
    answer = scene.send("GET", f"{BASE}/cards", token=token).json()
    return {one["node"]: [[part["job_id"] for part in parts] for parts in one["cards"]] for one in answer["nodes"]}


def test_jobs_are_on_the_cards_of_their_nodes(scene: Scene, cluster: FakeCluster) -> None:
    job_id = scene.bench.submit(workers=3, gpu_requirements={"gpu_type": "A100", "gpu_memory_gb": 80})
    run(scene, job_id, "a", "b", "b")
    assert cards(scene) == {"a": [[job_id], [], [], []], "b": [[job_id], [job_id], [], []]}
    run(scene, job_id, "b", "b")  # the third is not placed yet
    assert cards(scene) == {"a": [[], [], [], []], "b": [[job_id], [job_id], [], []]}


def test_other_peoples_jobs_are_there_and_have_no_name(scene: Scene, cluster: FakeCluster) -> None:
    job_id = scene.bench.submit(project_id="vision")
    run(scene, job_id, "a")
    assert cards(scene, BOB)["a"] == [[None], [], [], []]
    assert job_id not in scene.send("GET", f"{BASE}/cards", token=BOB).text


def test_a_job_without_a_node_yet_is_named_to_its_own_people(scene: Scene, cluster: FakeCluster) -> None:
    job_id = scene.bench.submit()
    run(scene, job_id)
    assert scene.send("GET", f"{BASE}/cards").json()["unplaced"] == [job_id]
    assert scene.send("GET", f"{BASE}/cards", token=BOB).json()["unplaced"] == []


def test_many_that_look_ask_the_cluster_once(scene: Scene, cluster: FakeCluster) -> None:
    assert len(cards(scene)) == 2
    cluster.add(node("c", "1"))
    assert len(cards(scene)) == 2
    scene.bench.clock.advance(KEPT_SECONDS + 1)
    assert len(cards(scene)) == 3


def test_a_cluster_that_does_not_answer_is_a_503(scene: Scene, cluster: FakeCluster) -> None:
    cluster.fail_next("list", ClusterError("no API server"))
    answer = scene.send("GET", f"{BASE}/cards")
    assert answer.status_code == 503
    assert "try again" in answer.json()["errors"][0]["repair"]


def test_without_a_cluster_there_are_no_cards_and_that_is_said(scene: Scene) -> None:
    answer = scene.send("GET", f"{BASE}/cards")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["rule"] == "this manager has no cluster, so it knows no cards"


def test_turns_of_a_shared_card_are_no_cards() -> None:
    found = gpu_node(node("t4", "8", count="1", product="Tesla-T4"))
    assert found is not None
    assert (found.cards_count, found.gpu) == (1, "Tesla-T4")
    assert gpu_node(node("none", "0")) is None
    with pytest.raises(ClusterError, match="Node odd says that it has 'two' cards"):
        gpu_node(node("odd", "2", count="two"))


def test_money_over_time_adds_up_to_what_the_project_used(scene: Scene) -> None:
    for hours in (5, 30, 2):
        job_id = scene.bench.submit()
        run(scene, job_id, "a")
        scene.bench.turn(hours * 3600)
        scene.bench.engine.see(job_id, Phase.SUCCEEDED)
        scene.bench.turn()
    whole = scene.send("GET", f"{BASE}/spending").json()
    (row,) = whole["projects"]
    assert len(row["cost_usd"]) == 14
    span = f"from={whole['from_at'].replace('+00:00', 'Z')}&to={whole['to_at'].replace('+00:00', 'Z')}"
    used = scene.send("GET", f"{BASE}/projects/vision/usage?{span}").json()
    assert used["cost_usd"] > 0
    assert sum(row["cost_usd"]) == pytest.approx(used["cost_usd"], rel=1e-9)
    hourly = scene.send("GET", f"{BASE}/spending?step_seconds=3600&{span}")
    assert hourly.status_code == 422  # more steps than anybody can look at
    assert [one["project_id"] for one in scene.send("GET", f"{BASE}/spending", token=BOB).json()["projects"]] == [
        "text"
    ]
    assert scene.send("GET", f"{BASE}/spending?project_id=text").status_code == 403


def test_the_latest_of_the_history_is_its_end(scene: Scene) -> None:
    for number in range(5):
        scene.bench.submit(job_name=f"job-{number}")
    every = scene.send("GET", f"{BASE}/events").json()["events"]
    latest = scene.send("GET", f"{BASE}/events?latest=true&limit=2").json()["events"]
    assert latest == every[-2:]
    after = f"after={every[-1]['sequence']}&latest=true"
    assert scene.send("GET", f"{BASE}/events?{after}").json()["events"] == []


def test_the_page_is_there_without_a_token_and_is_in_the_wheel(scene: Scene) -> None:
    answer = scene.send("GET", "/", token="")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert scene.send("GET", "/static/../api.py", token="").status_code == 404
    folder = Path("helpers/apps/manager/static")
    assert {path.name for path in folder.iterdir()} == {"index.html", "page.css", "page.js"}
