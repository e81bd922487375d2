"""The GPU manager on a real PostgreSQL: submits a second, kill -9 in the middle, and a long queue. One JSON line each.

Requests are sent by a process of their own at fixed instants, whether the ones before were answered or
not, and timed from the instant at which they were due: a server that stalls is charged for all that
waited. Committed jobs follow into a stand-in for the cluster (files) by the same process's outbox.
Run: python -m bench.manager_submits
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from bench.machine import busy_seconds, cpu_seconds
from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.change import AuditEntry, OutboxAction, OutboxRow, Submission
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import read_spec
from helpers.domain.jobs.states import JobStatus
from lab.manager_process import TOKEN, ManagerProcess, manager_process
from lab.postgres_server import PostgresServer, postgres_server

SETTINGS = ManagerSettings(projects=tuple(Project(name=f"team-{n}") for n in range(4)))
PATH = "/api/v1/gpu/jobs"
TARGET_P95_MS = 50.0
CONNECTIONS_COUNT = 16
DRAIN_BOUND_SECONDS = 300.0


def body(number: int) -> dict[str, Any]:
    """A request as the reference shows it."""
    return {
        "job_name": f"finetune_{number % 50}",
        "project_id": f"team-{number % 4}",
        "priority": ("high", "medium", "low")[number % 3],
        "gpu_requirements": {"gpu_type": "A100", "gpu_count": 1 + number % 8, "gpu_memory_gb": 80},
        "container": {"image": "nvcr.io/nvidia/pytorch:24.01-py3", "command": ["python", "train.py"]},
        "resources": {"cpu": "16", "memory": "128Gi"},
        "budget_limit_usd": 100.0,
        "max_duration_hours": 24,
        "preemptible": True,
    }


@dataclass
class Answers:
    """What came back. `ids`: of jobs that were acknowledged."""

    seconds: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """For the JSON line."""
        errors = sum(count for code, count in self.codes.items() if code not in (200, 201))
        ordered = sorted(self.seconds)

        def ms(ratio: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(ratio * len(ordered)))], 1) if ordered else 0.0

        return {
            "requests": len(self.seconds),
            "errors": errors,
            "codes": {str(code): count for code, count in sorted(self.codes.items())},
            "p50_ms": ms(0.5),
            "p95_ms": ms(0.95),
            "p99_ms": ms(0.99),
            "max_ms": ms(1.0),
        }


Request = tuple[str, str, dict[str, Any] | None, str]


def send_all(port: int, rate: float, requests: Sequence[Request], again: bool, out: Any) -> None:
    """In a process of its own: sends each request at its instant and puts an Answers into `out`."""
    answers, lock, counter = Answers(), threading.Lock(), iter(range(len(requests)))
    start_seconds = time.monotonic() + 0.5

    def work() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        for index in _shared(counter, lock):
            due_seconds = start_seconds + index / rate
            time.sleep(max(0.0, due_seconds - time.monotonic()))
            code, text = _one(connection, requests[index], again)
            took_seconds = time.monotonic() - due_seconds
            with lock:
                answers.seconds.append(took_seconds)
                answers.codes[code] += 1
                if code == 201:
                    answers.ids.append(json.loads(text)["job_id"])

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS_COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put(answers)


def _shared(counter: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    while True:
        with lock:
            index = next(counter, None)
        if index is None:
            return
        yield index


def _one(connection: HTTPConnection, request: Request, again: bool) -> tuple[int, str]:
    """The answer; `again`: until there is one, with the same key, as a careful client does."""
    method, path, document, key = request
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    headers |= {"Idempotency-Key": key} if key else {}
    content = json.dumps(document) if document is not None else None
    while True:
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status < 500 or not again:
                return answer.status, text
        except (OSError, HTTPException):
            connection.close()
            if not again:
                return 0, ""
        time.sleep(0.05)


@contextlib.contextmanager
def sending(
    port: int, rate: float, requests: Sequence[Request], *, again: bool = False
) -> Iterator[Callable[[], Answers]]:
    """Sends while the block runs; calling what it gives waits for the end."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    process = context.Process(target=send_all, args=(port, rate, requests, again, out))
    process.start()
    yield out.get
    process.join()


def submits(server: PostgresServer, rate: float, seconds: float) -> dict[str, Any]:
    """So many submits a second for so long."""
    with _manager(server, "submits") as (process, store):
        requests: list[Request] = [("POST", PATH, body(n), f"run-{n}") for n in range(int(rate * seconds))]
        before_seconds, busy_before_seconds = cpu_seconds(process.pid), busy_seconds()
        with sending(process.port, rate, requests) as answers:
            found = answers()
        used_seconds, all_seconds = cpu_seconds(process.pid) - before_seconds, busy_seconds() - busy_before_seconds
        lag_count = store.outbox_count()
        drained_seconds = _drained(store)
        return {
            "bench": "manager_submits",
            "rate_per_second": rate,
            "seconds": seconds,
            **found.figures(),
            "manager_cpu_cores": round(used_seconds / seconds, 2),
            "machine_busy_cores": round(all_seconds / seconds, 2),
            "outbox_rows_at_end": lag_count,
            "outbox_drained_after_seconds": drained_seconds,
            **_kept(process, store, found.ids),
            "target_p95_ms": TARGET_P95_MS,
        }


def killed(server: PostgresServer, rate: float, seconds: float) -> dict[str, Any]:
    """The same, killed with -9 in the middle and started again; clients ask again with their keys."""
    with _manager(server, "killed") as (process, store):
        requests: list[Request] = [("POST", PATH, body(n), f"run-{n}") for n in range(int(rate * seconds))]
        with sending(process.port, rate, requests, again=True) as answers:
            time.sleep(seconds / 2)
            process.kill()
            process.start()
            found = answers()
        _drained(store)
        return {
            "bench": "manager_submits_killed",
            "rate_per_second": rate,
            "seconds": seconds,
            **found.figures(),
            **_kept(process, store, found.ids),
        }


def long_queue(server: PostgresServer, count: int, rate: float, seconds: float) -> dict[str, Any]:
    """Lists and positions while `count` jobs wait."""
    with _manager(server, "queue", count) as (process, store):
        _drained(store)
        time.sleep(3)  # the next look at the queue
        ids = [row.job_id for row in store.queue()]
        lists: list[Request] = [("GET", f"{PATH}?limit=50", None, "")] * int(rate * seconds)
        ones: list[Request] = [("GET", f"{PATH}/{ids[n * 7919 % len(ids)]}", None, "") for n in range(len(lists))]
        with sending(process.port, rate, lists) as answers:
            listed = answers()
        with sending(process.port, rate, ones) as answers:
            placed = answers()
        return {
            "bench": "manager_queue",
            "queued_jobs": len(ids),
            "rate_per_second": rate,
            "list": listed.figures(),
            "position": placed.figures(),
            "target_p95_ms": TARGET_P95_MS,
        }


@contextlib.contextmanager
def _manager(server: PostgresServer, name: str, jobs_count: int = 0) -> Iterator[tuple[ManagerProcess, SqlJobStore]]:
    admin = open_database(server.url()).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    admin.dispose()
    database = open_database(server.url(name))
    migrate(database)
    store = SqlJobStore(database)
    for number in range(jobs_count):
        _submitted(store, number)
    with tempfile.TemporaryDirectory() as folder, manager_process(Path(folder), server.url(name), SETTINGS) as process:
        yield process, store
    database.dispose()


def _submitted(store: SqlJobStore, number: int) -> None:
    now_at, job_id, spec = datetime.now(UTC), f"gpu-job-{number:010d}", read_spec(body(number))
    job = Job(job_id, spec, JobStatus.PENDING, now_at, "alice", now_at, capacity="spot")
    event, entry = (
        JobEvent(job_id, now_at, "submitted", "", "alice"),
        AuditEntry(now_at, "alice", "submit", "x", job_id),
    )
    store.submit(Submission(job, event, entry, OutboxRow(job_id, OutboxAction.SUBMIT, now_at)))


def _drained(store: SqlJobStore) -> float:
    """Waits until every committed act is done; how long that took."""
    began_seconds = time.monotonic()
    while store.outbox_count() and time.monotonic() - began_seconds < DRAIN_BOUND_SECONDS:
        time.sleep(0.2)
    return round(time.monotonic() - began_seconds, 1)


def _kept(process: ManagerProcess, store: SqlJobStore, acknowledged: Sequence[str]) -> dict[str, int]:
    kept, made = {row.job_id for row in store.queue()}, Counter(process.made())
    return {
        "acknowledged": len(acknowledged),
        "kept": len(kept),
        "lost": len(set(acknowledged) - kept),
        "twice": len(acknowledged) - len(set(acknowledged)) + sum(count > 1 for count in made.values()),
        "without_objects": len(kept - process.objects()),
    }


def _load() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "load_before": round(statistics.fmean(os.getloadavg()[:1]), 2)}


def main() -> None:
    """Prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--only", choices=("submits", "killed", "queue"))
    options = parser.parse_args()
    with postgres_server() as server:
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "submits": lambda: submits(server, options.rate, options.seconds),
            "killed": lambda: killed(server, options.rate, options.seconds),
            "queue": lambda: long_queue(server, options.jobs, 20.0, min(options.seconds, 20.0)),
        }
        for name, run in runs.items():
            if options.only in (None, name):
                load = _load()
                print(json.dumps(run() | load), flush=True)


if __name__ == "__main__":
    main()
