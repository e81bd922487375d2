"""The manager's callers on a real API server: whose token it is, what RBAC lets its owner do, and no right too many."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.domain import names
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.rights import manager_rights, submitter_rights, viewer_rights
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.rights import Right
from lab.api import Api, ApiError
from lab.cluster import Lab
from lab.manager_process import ManagerProcess
from lab.queues.apps import wait_until
from lab.rights import grant_rights
from tests.fakes.jobs import document

pytestmark = pytest.mark.lab

HOME, VISION, TEXT = "manager-home", "vision", "text"
JOBS = "/api/v1/gpu/jobs"


class Scene:
    """A manager in the cluster, without an engine, and users of two projects."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.api: Api = lab.api()
        self.running: list[ManagerProcess] = []
        for namespace in (HOME, VISION, TEXT):
            with contextlib.suppress(ApiError):
                self.api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})

    def manager(self, *, without: str = "", audience: str = "") -> ManagerProcess:
        """One that is up."""
        places: list[Any] = [("cluster", ""), ("namespace", HOME)]
        kubeconfig = grant_rights(self.lab, HOME, names.MANAGER_COMPONENT, manager_rights(), places, without=without)
        settings = ManagerSettings(projects=(Project(name=VISION), Project(name=TEXT)), audience=audience)
        document = self.folder / "manager.json"
        document.write_text(settings.model_dump_json(), encoding="utf-8")

        def command(process: ManagerProcess) -> list[str]:
            database = f"GPUMEM_DATABASE_URL=sqlite:///{self.folder}/jobs.db"
            run = [sys.executable, "-m", "helpers.apps.cli", "manager", "run", "--settings", str(document)]
            run += [
                "--kubeconfig",
                str(kubeconfig),
                "--lease-namespace",
                HOME,
                "--address",
                process.address,
                "--metrics-address",
                "",
            ]
            return ["env", database, *run]

        process = ManagerProcess(self.folder, "", settings, command)
        self.running.append(process)
        process.start()
        return process

    def token(
        self, account: str, namespace: str, rights: tuple[Right, ...] = (), *, without: str = "", audience: str = ""
    ) -> str:
        """A ServiceAccount's token, with those rights in its namespace."""
        base = f"/api/v1/namespaces/{namespace}"
        if rights:
            grant_rights(self.lab, namespace, account, rights, [("tenants", namespace)], without=without)
        with contextlib.suppress(ApiError):
            self.api.post(f"{base}/serviceaccounts", {"metadata": {"name": account}})
        spec: dict[str, Any] = {"audiences": [audience]} if audience else {}
        return str(self.api.post(f"{base}/serviceaccounts/{account}/token", {"spec": spec})["status"]["token"])


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    one = Scene(lab, tmp_path)
    yield one
    for process in one.running:
        process.stop()


def send(process: ManagerProcess, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{process.base_url}{path}", json=body, headers=headers, timeout=60)


def test_a_token_of_one_project_can_read_and_do_nothing_of_another(scene: Scene) -> None:
    process = scene.manager()
    mine, theirs = (scene.token("submitter", project, submitter_rights()) for project in (VISION, TEXT))
    job_id = send(process, theirs, "POST", JOBS, document(project_id=TEXT)).json()["job_id"]
    assert send(process, mine, "POST", JOBS, document()).status_code == 201
    assert send(process, mine, "POST", JOBS, document(project_id=TEXT)).status_code == 403
    assert send(process, mine, "GET", f"{JOBS}/{job_id}").status_code == 404
    assert send(process, mine, "DELETE", f"{JOBS}/{job_id}").status_code == 404
    assert send(process, mine, "GET", f"/api/v1/gpu/projects/{TEXT}/usage").status_code == 403
    listed = send(process, mine, "GET", JOBS).json()["jobs"]
    assert [one["project_id"] for one in listed] == [VISION]
    assert listed[0]["submitted_by"] == f"system:serviceaccount:{VISION}:submitter"
    assert send(process, theirs, "DELETE", f"{JOBS}/{job_id}").json()["status"] == "cancelled"


def test_who_has_no_right_is_told_which_and_who_is_nobody_gets_nothing(scene: Scene) -> None:
    process = scene.manager()
    refused = send(process, scene.token("stranger", VISION), "POST", JOBS, document())
    assert refused.status_code == 403
    assert f"may not create gpujobs.gpumem.io in namespace {VISION}" in refused.json()["errors"][0]["rule"]
    assert send(process, "not-a-token", "GET", JOBS).status_code == 401
    other = scene.token("submitter", VISION, submitter_rights(), audience="somebody-else")
    assert send(process, other, "GET", JOBS).status_code == 401
    viewer = scene.token("viewer", VISION, viewer_rights())
    assert send(process, viewer, "GET", JOBS).status_code == 200
    assert send(process, viewer, "POST", JOBS, document()).status_code == 403


def test_a_token_for_the_declared_audience_is_let_in_and_the_ordinary_one_is_not(scene: Scene) -> None:
    process = scene.manager(audience="gpumem")
    assert send(process, scene.token("submitter", VISION, submitter_rights()), "GET", JOBS).status_code == 401
    meant = scene.token("submitter", VISION, submitter_rights(), audience="gpumem")
    assert send(process, meant, "POST", JOBS, document()).status_code == 201


@pytest.mark.parametrize("verb", names.JOB_VERBS)
def test_each_right_of_a_submitter_is_needed(scene: Scene, verb: str) -> None:
    process = scene.manager()
    whole = scene.token("whole", VISION, submitter_rights())
    job_id = send(process, whole, "POST", JOBS, document()).json()["job_id"]
    less = scene.token(f"no-{verb}", VISION, submitter_rights(), without=f"{verb} {names.JOB_RESOURCE}")
    method, path, body, code = {
        "create": ("POST", JOBS, document(), 403),
        "get": ("GET", f"{JOBS}/{job_id}", None, 404),
        "list": ("GET", f"{JOBS}?project_id={VISION}", None, 403),
        "delete": ("DELETE", f"{JOBS}/{job_id}", None, 403),
    }[verb]
    assert send(process, less, method, path, body).status_code == code
    assert send(process, whole, method, path, body).status_code < 300


@pytest.mark.parametrize("verb", ["create tokenreviews", "create subjectaccessreviews"])
def test_what_the_manager_may_not_find_out_is_never_a_yes(scene: Scene, verb: str) -> None:
    process = scene.manager(without=verb)
    answer = send(process, scene.token("submitter", VISION, submitter_rights()), "POST", JOBS, document())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    wait_until(lambda: verb.split()[1] in process.log, "it says what is missing", 10)


def test_the_rights_name_nothing_that_is_not_needed() -> None:
    text = json.dumps([right.rule() for right in manager_rights()])
    for word in ("*", "secrets", "pods", "update", "delete"):
        assert word not in text
