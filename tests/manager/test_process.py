"""Managers as processes: killed in the middle of submits, started together, told to end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.store import SqlJobStore
from helpers.apps.manager.app import Outside, run_manager
from helpers.apps.manager.settings import RunSettings
from helpers.services.manager_figures import ManagerFigures
from helpers.services.manager_queue import QueueBoard
from lab.manager_process import ROOT, TOKEN, ManagerProcess, manager_process
from lab.ports import free_ports
from lab.postgres_server import PostgresServer
from tests.fakes.jobs import document
from tests.fakes.manager import SETTINGS
from tests.manager.conftest import new_database

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
WAIT_BOUND_SECONDS = 60.0


def until(true: Callable[[], bool]) -> None:
    end_seconds = time.monotonic() + WAIT_BOUND_SECONDS
    while not true():
        assert time.monotonic() < end_seconds, "it did not come to that"
        time.sleep(0.05)


class Submitter(threading.Thread):
    """Submits without end, each job until it is acknowledged, as a careful client does: again with the same key."""

    def __init__(self, number: int, base_url: str) -> None:
        super().__init__(daemon=True)
        self.number, self.base_url = number, base_url
        self.acknowledged: dict[str, str] = {}
        self.failures: Counter[int] = Counter()
        self.stopped = threading.Event()

    def run(self) -> None:
        count = 0
        with httpx.Client(base_url=self.base_url, headers=HEADERS, timeout=30) as client:
            while not self.stopped.is_set():
                key = f"run-{self.number}-{count}"
                if self.submit(client, key):
                    count += 1

    def submit(self, client: httpx.Client, key: str) -> bool:
        try:
            answer = client.post("/api/v1/gpu/jobs", json=document(), headers={"Idempotency-Key": key})
        except httpx.TransportError:
            self.stopped.wait(0.05)
            return False
        if answer.status_code != 201:
            self.failures[answer.status_code] += 1
            return False
        self.acknowledged[key] = answer.json()["job_id"]
        return True


def test_killed_in_the_middle_of_submits_none_is_lost_and_none_is_there_twice(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = new_database(postgres)
    with manager_process(tmp_path, url, SETTINGS) as process:
        submitters = [Submitter(number, process.base_url) for number in range(4)]
        for submitter in submitters:
            submitter.start()
        for _ in range(3):
            before = sum(len(one.acknowledged) for one in submitters)
            until(lambda before=before: sum(len(one.acknowledged) for one in submitters) > before + 40)  # type: ignore[misc]
            process.kill()
            process.start()
        for submitter in submitters:
            submitter.stopped.set()
        for submitter in submitters:
            submitter.join()
        engine = open_database(url)
        store = SqlJobStore(engine)
        until(lambda: store.outbox_count() == 0)
        kept = {job.job_id for job in store.unfinished()}
        acknowledged = [job_id for one in submitters for job_id in one.acknowledged.values()]
        unacknowledged_count = len(kept) - len(acknowledged)
        assert set(acknowledged) <= kept, "one was lost"
        assert len(set(acknowledged)) == len(acknowledged), "two keys came to one job"
        # Who was stopped between commit and acknowledgement had no time to ask again: one for each client at most.
        assert 0 <= unacknowledged_count <= len(submitters)
        assert process.objects() == kept
        assert max(Counter(process.made()).values()) == 1, "one was made twice"
        for job_id in kept:
            events = store.events(["vision"], job_id=job_id, after_sequence=0, limit=9)
            assert [event.kind for event in events] == ["submitted", "queued"]
        engine.dispose()


def test_of_two_replicas_one_leads_and_the_other_follows_when_it_dies(postgres: PostgresServer, tmp_path: Path) -> None:
    url = new_database(postgres)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with manager_process(one, url, SETTINGS) as first, manager_process(two, url, SETTINGS) as second:
        for process in (first, second):
            answer = httpx.post(f"{process.base_url}/api/v1/gpu/jobs", json=document(), headers=HEADERS)
            assert answer.status_code == 201
        until(lambda: len(first.made()) == 2)
        assert second.made() == []
        first.kill()
        httpx.post(f"{second.base_url}/api/v1/gpu/jobs", json=document(), headers=HEADERS)
        until(lambda: len(second.objects()) >= 1)
        assert len(httpx.get(f"{second.base_url}/api/v1/gpu/jobs", headers=HEADERS).json()["jobs"]) == 3


def test_a_database_that_goes_away_and_comes_back(postgres: PostgresServer, tmp_path: Path) -> None:
    url = new_database(postgres)
    with (
        manager_process(tmp_path, url, SETTINGS) as process,
        httpx.Client(base_url=process.base_url, headers=HEADERS) as client,
    ):
        assert client.post("/api/v1/gpu/jobs", json=document()).status_code == 201
        postgres.kill()
        try:
            answer = client.post("/api/v1/gpu/jobs", json=document())
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
        finally:
            postgres.start()
        until(lambda: client.get("/readyz").status_code == 200)
        until(lambda: client.post("/api/v1/gpu/jobs", json=document()).status_code == 201)


def estate(folder: Path) -> Path:
    """The example with a manager."""
    file = folder / "estate.yaml"
    text = (ROOT / "gpumem.yaml").read_text(encoding="utf-8")
    file.write_text(text + "\nmanager:\n  projects: [{name: vision}]\n", encoding="utf-8")
    return file


def command(folder: Path, url: str, *options: str) -> list[str]:
    """`gpumem manager run` on that database."""
    run = [sys.executable, "-m", "helpers.apps.cli", "manager", "run", "-f", str(estate(folder)), "--no-kubernetes"]
    return ["env", f"GPUMEM_DATABASE_URL={url}", *run, *options]


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    url, metrics_port = f"sqlite:///{tmp_path}/jobs.db", free_ports(1)[0]

    def run(process: ManagerProcess) -> list[str]:
        options = ["--tokens", str(process.tokens), "--address", process.address]
        return command(tmp_path, url, *options, "--metrics-address", f"127.0.0.1:{metrics_port}")

    process = ManagerProcess(tmp_path, url, SETTINGS, run)
    process.start()
    # What the example estate has: a T4 that is shared.
    body = document(gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 3000})
    answer = httpx.post(f"{process.base_url}/api/v1/gpu/jobs", json=body, headers=HEADERS)
    assert answer.status_code == 201
    metrics = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    assert 'code="201",route="POST /api/v1/gpu/jobs"' in metrics
    assert process.stop() == 0
    assert '"event": "no_engine"' in process.log


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("mysql://x", 2, "use postgresql+psycopg"),
        ("postgresql://u:very-secret@127.0.0.1:1/x", 3, "the database did not"),
    ],
)
def test_a_database_that_cannot_be_used_ends_the_command(tmp_path: Path, url: str, code: int, words: str) -> None:
    ended = subprocess.run(command(tmp_path, url), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert words in ended.stderr
    assert "very-secret" not in ended.stderr


@pytest.mark.parametrize("loop", [QueueBoard, ManagerFigures])
def test_a_loop_that_ended_before_the_process_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: type
) -> None:
    """What it keeps would stand still, and nobody would see that from outside."""
    ends, stop = threading.Event(), threading.Event()
    port = free_ports(1)[0]
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} alice vision\n")
    tokens.chmod(0o600)

    def runs(_: object, stopped: Callable[[], bool]) -> None:
        while not (stopped() or ends.is_set()):
            time.sleep(0.02)

    monkeypatch.setattr(loop, "run", runs)
    run = RunSettings(address=f"127.0.0.1:{port}", tokens=tokens, database_url=f"sqlite:///{tmp_path}/jobs.db")
    thread = threading.Thread(target=run_manager, args=(SETTINGS, run, Outside()), kwargs={"stop": stop.is_set})
    thread.start()

    def healthz() -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code
        except httpx.TransportError:
            return 0

    try:
        until(lambda: healthz() == 200)
        ends.set()
        until(lambda: healthz() == 503)
    finally:
        stop.set()
        thread.join()
