"""Who may do what: a token of one project can read and do nothing of another."""

from __future__ import annotations

import json

import pytest

from helpers.apps.manager.gate import SEEN_SECONDS
from tests.fakes.jobs import document
from tests.manager.scene import ALICE, BOB, VIEWER, Scene

SECRET = "the-other-projects-work"


@pytest.fixture
def theirs(scene: Scene) -> str:
    """A running job of project text, which is Bob's."""
    body = document(project_id="text", job_name=SECRET, container={"image": "a", "env": {"KEY": SECRET}})
    job_id: str = scene.submit(body, BOB).json()["job_id"]
    scene.bench.turn()
    scene.bench.board.look()
    return job_id


@pytest.mark.parametrize("token", ["", "token-of-a-stranger"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", "/jobs"), ("GET", "/jobs"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("GET", "/jobs/x/logs")],
        *[
            ("GET", "/jobs/x/events"),
            ("GET", "/events"),
            ("GET", "/audit"),
            ("GET", "/queues"),
            ("GET", "/projects/vision/usage"),
        ],
        *[("GET", "/quotas"), ("GET", "/pricing"), ("GET", "/projects/vision/advice")],
    ],
)
def test_nobody_gets_anything_without_a_token(scene: Scene, method: str, path: str, token: str) -> None:
    answer = scene.send(method, f"/api/v1/gpu{path}", {} if method == "POST" else None, token)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("GET", "/logs"), ("GET", "/events"), ("DELETE", "")])
def test_another_projects_job_is_as_if_it_were_not_there(scene: Scene, theirs: str, method: str, tail: str) -> None:
    answer = scene.send(method, f"/api/v1/gpu/jobs/{theirs}{tail}")
    missing = scene.send(method, f"/api/v1/gpu/jobs/gpu-job-missing{tail}")
    assert (answer.status_code, missing.status_code) == (404, 404)
    assert answer.text.replace(theirs, "gpu-job-missing") == missing.text
    assert scene.bench.job(theirs).status.value == "provisioning"


@pytest.mark.parametrize(
    "path",
    [
        *["/jobs?project_id=text", "/events?project_id=text", "/audit?project_id=text", "/projects/text/usage"],
        *["/quotas?project_id=text", "/projects/text/advice"],
    ],
)
def test_another_project_cannot_be_asked_about(scene: Scene, theirs: str, path: str) -> None:
    answer = scene.send("GET", f"/api/v1/gpu{path}")
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["rule"] == "alice may not list gpujobs.gpumem.io in namespace text"


@pytest.mark.parametrize(
    "path", ["/jobs", "/events", "/audit", "/queues", "/quotas", "/pricing", "/projects/vision/usage"]
)
def test_nothing_of_another_project_is_in_what_is_listed(scene: Scene, theirs: str, path: str) -> None:
    mine = scene.submit(document()).json()["job_id"]
    answer = scene.send("GET", f"/api/v1/gpu{path}")
    assert answer.status_code == 200
    for word in (theirs, SECRET, '"text"'):
        assert word not in answer.text
    if path in ("/jobs", "/events", "/audit"):
        assert mine in answer.text
    if path == "/queues":
        (queue,) = answer.json()["queues"]
        assert (queue["held"], queue["own_waiting_count"]) == (1, 0)


def test_nothing_can_be_submitted_into_another_project(scene: Scene) -> None:
    answer = scene.submit(document(project_id="text"))
    assert answer.status_code == 403
    assert scene.bench.store.outbox_count() == 0


def test_a_key_of_another_project_is_another_key(scene: Scene) -> None:
    first = scene.submit(document(project_id="text"), BOB, Idempotency_Key="k").json()["job_id"]
    assert scene.submit(document(), ALICE, Idempotency_Key="k").json()["job_id"] != first


def test_who_may_look_may_not_act(scene: Scene) -> None:
    job_id = scene.submit(document()).json()["job_id"]
    assert scene.send("GET", f"/api/v1/gpu/jobs/{job_id}", token=VIEWER).status_code == 200
    assert scene.send("DELETE", f"/api/v1/gpu/jobs/{job_id}", token=VIEWER).status_code == 403
    assert scene.submit(document(), VIEWER).status_code == 403


def test_what_cannot_be_found_out_is_never_a_yes(scene: Scene, theirs: str) -> None:
    scene.callers.broken = "the API server does not answer"
    scene.bench.clock.advance(SEEN_SECONDS)
    for method, path, body in [("GET", f"/jobs/{theirs}", None), ("POST", "/jobs", document()), ("GET", "/jobs", None)]:
        answer = scene.send(method, f"/api/v1/gpu{path}", body, BOB)
        assert answer.status_code == 503
        assert "does not answer" in json.dumps(answer.json())
    assert scene.bench.log.of("request_failed")


def test_an_empty_name_is_no_project(scene: Scene) -> None:
    for name in ("", "..", "Text", "a b", "%00"):
        assert scene.send("GET", f"/api/v1/gpu/jobs?project_id={name}").status_code == 403
