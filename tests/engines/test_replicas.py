"""Two replicas of the program itself on a real cluster: one leads, and when it is killed the other goes on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.domain.estate.model import Estate
from lab.cluster import Lab
from lab.jobs import document, lab_manager, settings_of
from lab.manager_process import TOKEN, ManagerProcess
from lab.ports import free_ports
from lab.waiting import wait_for
from tests.engines.scene import job_object, pods_of, remove_jobs
from tests.fakes.outside import FakeLog

pytestmark = pytest.mark.lab

HOME, JOBS = "gpu-system", "/api/v1/gpu/jobs"


@dataclass(frozen=True)
class Replica:
    process: ManagerProcess
    metrics_port: int


@pytest.fixture
def replicas(jobs_lab: Lab, job_estate: Estate, tmp_path: Path) -> Iterator[list[Replica]]:
    settings = settings_of(job_estate)
    told = tmp_path / "manager.json"
    told.write_text(settings.model_dump_json(), encoding="utf-8")

    def command(process: ManagerProcess) -> list[str]:
        metrics = metrics_ports[process.folder.name] = free_ports(1)[0]
        database = f"{settings.database_url_env}=sqlite:///{tmp_path}/jobs.db"
        run = [sys.executable, "-m", "helpers.apps.cli", "manager", "run", "--settings", str(told)]
        run += [
            "--kubeconfig",
            str(jobs_lab.kubeconfig),
            "--lease-namespace",
            HOME,
            "--metrics-address",
            f"127.0.0.1:{metrics}",
        ]
        return ["env", database, *run, "--address", process.address, "--tokens", str(process.tokens)]

    metrics_ports: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            process = ManagerProcess(folder, "", settings, command)
            stack.callback(process.stop)
            process.start()
            found.append(Replica(process, metrics_ports[name]))
        yield found
    remove_jobs(jobs_lab, job_estate)


def ask(replica: Replica, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.request(method, f"{replica.process.base_url}{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code < 300, answer.text
    return answer.json()


def leads(replica: Replica) -> bool:
    text = httpx.get(f"http://127.0.0.1:{replica.metrics_port}/metrics", timeout=60).text
    return "gpumem_manager_leader 1.0" in text


def test_a_killed_leader_is_followed_and_no_job_runs_twice(jobs_lab: Lab, replicas: list[Replica]) -> None:
    wait_for(lambda: any(leads(one) for one in replicas))
    leader = next(one for one in replicas if leads(one))
    (other,) = [one for one in replicas if one is not leader]
    assert not leads(other)
    # Whoever does not lead takes submits as well. Some run when the leader dies, some wait, some are not made yet.
    before = [ask(other, "POST", JOBS, document(gpus=4, seconds=3.0))["job_id"] for _ in range(8)]
    wait_for(lambda: any(ask(other, "GET", f"{JOBS}/{one}")["status"] == "running" for one in before))
    leader.process.kill()
    began_seconds = time.monotonic()
    job_ids = before + [ask(other, "POST", JOBS, document(seconds=0.5))["job_id"] for _ in range(2)]
    wait_for(lambda: all(ask(other, "GET", f"{JOBS}/{one}")["status"] == "completed" for one in job_ids))
    assert leads(other)
    assert time.monotonic() - began_seconds > 5  # not before the lease had run out
    pods = pods_of(jobs_lab, "vision")
    for job_id in job_ids:
        assert job_object(jobs_lab, "vision", job_id)["metadata"]["annotations"]["gpumem.io/attempt"] == "1"
        assert len([pod for pod in pods if pod["metadata"]["labels"]["gpumem.io/job"] == job_id]) == 1
        kinds = [event["kind"] for event in ask(other, "GET", f"{JOBS}/{job_id}/events")["events"]]
        assert kinds == ["submitted", "queued", "provisioning", "running", "completed"]


def test_a_dry_run_asks_the_api_server_and_does_nothing(jobs_lab: Lab, job_estate: Estate, tmp_path: Path) -> None:
    log = FakeLog()
    url = f"sqlite:///{tmp_path}/jobs.db"
    with lab_manager(jobs_lab, settings_of(job_estate), url, log, dry_run=True) as manager:
        job_id = manager.submit()
        for _ in range(3):
            manager.loop.turn()
        assert manager.statuses(job_id) == ["pending"]
        assert job_object(jobs_lab, "vision", job_id) is None
        assert "dry run: the API server would make Job" in str(log.of("outbox_not_done")[0]["reason"])
