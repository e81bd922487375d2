"""Leases on a real API server: whose token it is, what RBAC lets its owner do, and that no right is too many."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.domain import names
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.leases.rights import holder_rights, serving_rights
from lab.api import Api, ApiError
from lab.cluster import Lab
from lab.programs import NoProgram, find_program
from lab.queues.apps import wait_until
from lab.queues.coordinators import CoordinatorProcess, InCluster
from lab.queues.stall import proxy
from lab.redis_server import RedisServer, redis_server
from lab.rights import grant_rights
from lab.small_exporter import LabExporter, lab_exporter
from tests.fakes.lanes import settings
from tests.leases.scene import card_settings

pytestmark = pytest.mark.lab

HOME, TRAIN = "lease-home", "train"
LEADING = ("get leases", "patch leases", "create leases")
RIGHTS = (*coordinator_rights(settings()), *serving_rights())
VERBS = sorted({f"{verb} {right.resource}" for right in RIGHTS for verb in right.verbs})
ONE = "/run-0001"
ASKED = {"tenant": "trainer", "mib": 8000, "lane": "day", "request_id": "run-0001"}


def api_port_of(lab: Lab) -> int:
    return int(lab.server.rpartition(":")[2])


class Scene:
    """A coordinator in the cluster, and pods that ask it."""

    def __init__(self, lab: Lab, folder: Path, redis: RedisServer, exporter: LabExporter, stack: ExitStack) -> None:
        self.lab, self.folder, self.redis, self.exporter = lab, folder, redis, exporter
        self.api: Api = lab.api()
        self._stack = stack
        for namespace in (HOME, TRAIN):
            with contextlib.suppress(ApiError):
                self.api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        # One that was given up: then reading and patching it is what leading needs.
        self.api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{names.COORDINATOR_COMPONENT}")

    def made_lease(self) -> None:
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        body = {"metadata": {"name": names.COORDINATOR_COMPONENT}, "spec": spec}
        self.api.post(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases", body)

    def coordinator(
        self, *, without: str = "", api_port: int | None = None, served: bool = True, **leases: Any
    ) -> CoordinatorProcess:
        places: list[Any] = [("cluster", ""), ("namespace", HOME), ("tenants", TRAIN)]
        kubeconfig = grant_rights(self.lab, HOME, "gpumem-coordinator", RIGHTS, places, without=without)
        if api_port is not None:
            text = kubeconfig.read_text().replace(str(api_port_of(self.lab)), str(api_port))
            kubeconfig = self.folder / "kubeconfig-through-proxy"
            kubeconfig.write_text(text)
        arguments = ["--lease-address", "127.0.0.1:0"]
        declared = card_settings(self.redis.url, self.exporter, **leases)
        running = CoordinatorProcess(
            declared, self.folder / "coordinator", cluster=InCluster(kubeconfig, HOME), arguments=arguments
        )
        self._stack.callback(running.kill)
        if served:
            wait_until(lambda: bool(running.of("leases_served")), "leases are served", 60)
            wait_until(lambda: bool(running.of("leases_taken_over")), "leases are taken over", 60)
        return running

    def token(self, account: str, *, pod: str = "", audience: str = "", without: str | None = None) -> str:
        """A token of that ServiceAccount, of a pod where one is named; rights for the trainer unless `without` is None.

        `without`: one right to leave out, as `create leases`; empty: none.
        """
        base = f"/api/v1/namespaces/{TRAIN}"
        if without is not None:
            grant_rights(self.lab, TRAIN, account, holder_rights("trainer"), [("tenants", TRAIN)], without=without)
        with contextlib.suppress(ApiError):
            self.api.post(f"{base}/serviceaccounts", {"metadata": {"name": account}})
        spec: dict[str, Any] = {"audiences": [audience]} if audience else {}
        if pod:
            containers = [{"name": "main", "image": "registry.example.com/none:1"}]
            made = {"metadata": {"name": pod}, "spec": {"serviceAccountName": account, "containers": containers}}
            self.api.delete(f"{base}/pods/{pod}", {"gracePeriodSeconds": 0})
            uid = self.api.post(f"{base}/pods", made)["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        return str(self.api.post(f"{base}/serviceaccounts/{account}/token", {"spec": spec})["status"]["token"])

    def send(
        self, running: CoordinatorProcess, token: str, method: str = "POST", path: str = "", **changes: Any
    ) -> httpx.Response:
        headers, body = {"Authorization": f"Bearer {token}"}, ASKED | changes if method == "POST" else None
        url = f"{running.lease_url}/v1/leases{path}"
        return httpx.request(method, url, json=body, headers=headers, timeout=60)

    def events(self) -> list[dict[str, Any]]:
        return list(self.api.get(f"/api/v1/namespaces/{TRAIN}/events")["items"])


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    found = find_program("redis-server")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        exporter = stack.enter_context(lab_exporter("desk", dict))
        exporter.interval_seconds = 0.2
        yield Scene(lab, tmp_path, redis, exporter, stack)


def test_a_pods_own_token_is_enough_and_its_expiry_is_an_event_on_the_pod(scene: Scene) -> None:
    running = scene.coordinator(ttl_seconds=3.0)
    token = scene.token("holder", pod="trainer-0", without="")
    answer = scene.send(running, token)
    assert answer.status_code == 201, answer.text
    assert answer.json()["pod"] == "trainer-0"
    assert answer.json()["user"] == f"system:serviceaccount:{TRAIN}:holder"
    wait_until(lambda: any(one["reason"] == "GPULeaseExpired" for one in scene.events()), "the Event", 30)
    (event,) = [one for one in scene.events() if one["reason"] == "GPULeaseExpired"]
    assert event["involvedObject"]["name"] == "trainer-0"
    assert "it was not renewed for 3 s" in event["message"]


def test_who_has_no_right_is_told_which_and_who_is_nobody_gets_nothing(scene: Scene) -> None:
    running = scene.coordinator()
    stranger = scene.send(running, scene.token("stranger"))
    assert stranger.status_code == 403
    assert f"may not create leases.gpumem.io 'trainer' in namespace {TRAIN}" in stranger.json()["error"]
    assert scene.send(running, "not-a-token").status_code == 401
    assert scene.send(running, scene.token("holder", audience="somebody-else", without="")).status_code == 401


def test_a_token_for_the_declared_audience_is_let_in_and_the_pods_ordinary_one_is_not(scene: Scene) -> None:
    running = scene.coordinator(audience="gpumem")
    assert scene.send(running, scene.token("holder", without="")).status_code == 401
    assert scene.send(running, scene.token("holder", audience="gpumem", without="")).status_code == 201


@pytest.mark.parametrize(
    ("verb", "method", "path"),
    [
        ("create", "POST", ""),
        ("get", "GET", "/run-0001"),
        ("update", "PUT", "/run-0001"),
        ("delete", "DELETE", "/run-0001"),
    ],
)
def test_each_right_of_a_holder_is_needed(scene: Scene, verb: str, method: str, path: str) -> None:
    running = scene.coordinator(ttl_seconds=600.0)
    assert scene.send(running, scene.token("whole", without="")).status_code == 201
    answer = scene.send(
        running, scene.token(f"no-{verb}", without=f"{verb} leases"), method, path, request_id="run-0002"
    )
    assert answer.status_code == 403
    assert f"may not {verb} leases.gpumem.io" in answer.json()["error"]


def test_the_right_to_list_is_needed_for_the_list(scene: Scene) -> None:
    running = scene.coordinator(ttl_seconds=600.0)
    whole = scene.token("whole", without="")
    scene.send(running, whole)
    assert len(scene.send(running, whole, "GET").json()["leases"]) == 1
    assert scene.send(running, scene.token("no-list", without="list leases"), "GET").json()["leases"] == []


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_of_the_coordinator_is_needed(scene: Scene, verb: str) -> None:
    if verb in ("get leases", "patch leases"):
        scene.made_lease()
    if verb in LEADING:
        running = scene.coordinator(without=verb, served=False)
        wait_until(lambda: running.process.poll() is not None, "it ends and says why", 60)
        wait_until(lambda: "leases" in json.dumps(running.of("run_failed")), "it says what is missing")
        return
    running = scene.coordinator(without=verb, ttl_seconds=3.0)
    answer = scene.send(running, scene.token("holder", pod="trainer-0", without=""))
    if verb == "create events":
        assert answer.status_code == 201
        wait_until(lambda: bool(running.of("event_not_written")), "the missing Event is said")
    else:
        assert answer.status_code == 503
        wait_until(lambda: bool(running.of("lease_request_failed")), "it says why")
        assert verb.split()[1] in running.of("lease_request_failed")[0]["reason"]


def test_an_api_server_that_does_not_answer_is_503_and_never_a_yes(scene: Scene) -> None:
    with proxy(api_port_of(scene.lab)) as between:
        running = scene.coordinator(api_port=between.port)
        token = scene.token("holder", without="")
        between.stall()
        answer = scene.send(running, token)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        between.flow()


def test_the_rights_name_nothing_that_is_not_needed() -> None:
    text = json.dumps([right.rule() for right in RIGHTS])
    for word in ("*", "secrets", "pods", "update", "delete"):
        assert word not in text
