"""A running pod is told to save its state: by a signal to its first process, or by a request."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from helpers.adapters.job_engines import checkpoints
from helpers.adapters.job_engines.cards import CONTROLLER_UID
from helpers.adapters.job_engines.checkpoints import AGAIN_SECONDS, Askings, CheckpointHooks
from helpers.adapters.job_engines.engine import JobObjects
from helpers.domain.errors import ClusterError
from helpers.domain.jobs.spec import Checkpoint
from helpers.domain.jobs.states import JobStatus
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import CommandEnded
from tests.fakes.cluster import FakeCluster
from tests.fakes.jobs import job, spec
from tests.fakes.outside import FakeClock, FakeEvents, FakeLog
from tests.unit.test_job_documents import settings

SIGNAL = Checkpoint(signal="SIGUSR1")


def pod(address: str = "") -> dict[str, Any]:
    return {"metadata": {"name": "train-x", "namespace": "vision"}, "status": {"podIP": address}}


class FakeCommands:
    """Remembers what ran; answers `ended`."""

    def __init__(self, ended: CommandEnded | ClusterError) -> None:
        self.ended = ended
        self.ran: list[tuple[str, str, list[str]]] = []

    def run(self, pod: ObjectRef, container: str, command: Sequence[str], timeout_seconds: float) -> CommandEnded:
        self.ran.append((pod.name, container, list(command)))
        if isinstance(self.ended, ClusterError):
            raise self.ended
        return self.ended


def test_a_signal_goes_to_the_first_process_of_the_jobs_container() -> None:
    commands, log = FakeCommands(CommandEnded(0, "")), FakeLog()
    assert CheckpointHooks(commands, log).ask(SIGNAL, [pod()])
    assert commands.ran == [("train-x", "main", ["sh", "-c", "kill -s USR1 1"])]
    assert log.lines == []


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (CommandEnded(127, "kill: not found\n"), "exit status 127: kill: not found"),
        (ClusterError("exec in Pod vision/train-x: no end in time"), "no end in time"),
    ],
)
def test_a_signal_that_was_not_taken_is_a_no_with_its_reason(ended: Any, reason: str) -> None:
    log = FakeLog()
    assert not CheckpointHooks(FakeCommands(ended), log).ask(SIGNAL, [pod()])
    assert reason in str(log.of("checkpoint_not_asked")[0]["reason"])


def test_who_may_not_run_commands_says_so() -> None:
    log = FakeLog()
    assert not CheckpointHooks(None, log).ask(SIGNAL, [pod()])
    assert log.of("checkpoint_not_asked")[0]["reason"] == "this manager cannot run commands in pods"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(200 if self.path == "/save" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "address", "reason"),
    [("/save", "127.0.0.1", ""), ("/other", "127.0.0.1", "503"), ("/save", "", "POST"), ("/save", "a.name", "POST")],
)
def test_a_request_goes_to_the_pods_own_address(port: int, path: str, address: str, reason: str) -> None:
    log = FakeLog()
    told = CheckpointHooks(None, log).ask(Checkpoint(http_path=path, http_port=port), [pod(address)])
    assert told is not bool(reason)
    assert all(reason in str(line["reason"]) for line in log.of("checkpoint_not_asked"))


@contextlib.contextmanager
def handler(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose every connection is given to `answer`, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


def silent(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1024):
            pass


def dripping(connection: socket.socket) -> None:
    """A byte before every bound of one read, and never a whole line."""
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"H")
            time.sleep(0.05)


SLOW_SECONDS = 1.0


def slow(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1024)
        time.sleep(SLOW_SECONDS)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, dripping])
def test_one_bound_is_for_the_whole_answer_of_all_pods(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], None]
) -> None:
    """Forty pods, sixteen at a time: those that find no time any more are not asked, and say so."""
    monkeypatch.setattr(checkpoints, "ASK_BOUND_SECONDS", 2.0)
    log = FakeLog()
    with handler(answer) as port:
        began_seconds = time.monotonic()
        assert not CheckpointHooks(None, log).ask(Checkpoint(http_path="/", http_port=port), [pod("127.0.0.1")] * 40)
    assert time.monotonic() - began_seconds < 5.5  # three times sixteen, each with a bound of its own, take 6
    assert len(log.of("checkpoint_not_asked")) == 40


def test_pods_are_asked_side_by_side() -> None:
    with handler(slow) as port:
        began_seconds = time.monotonic()
        assert CheckpointHooks(None, FakeLog()).ask(Checkpoint(http_path="/", http_port=port), [pod("127.0.0.1")] * 16)
    assert time.monotonic() - began_seconds < 16 * SLOW_SECONDS / 2


def test_what_answers_no_http_is_a_no() -> None:
    log = FakeLog()
    with handler(lambda connection: connection.sendall(b"220 smtp ready\r\n")) as port:
        assert not CheckpointHooks(None, log).ask(Checkpoint(http_path="/", http_port=port), [pod("127.0.0.1")])
    assert "220 smtp ready" in str(log.of("checkpoint_not_asked")[0]["reason"])


class Seen:
    """Watched objects that stand still."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = list(found)

    def all(self) -> list[dict[str, Any]]:
        return self.found

    def unread(self) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        pass


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def of_one_pod(clock: FakeClock, log: FakeLog) -> JobObjects:
    """Objects in which gpu-job-1 runs with one pod."""
    found = JobObjects(settings(), FakeCluster(), FakeEvents(), clock, log)  # type: ignore[arg-type]
    one = pod("127.0.0.1")
    one["metadata"]["labels"] = {CONTROLLER_UID: "u"}
    one["status"]["phase"] = "Running"
    found.jobs = Seen({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "gpu-job-1", "uid": "u"}})  # type: ignore[assignment]
    found.pods = Seen(one)  # type: ignore[assignment]
    return found


def asked(port: int, clock: FakeClock) -> Any:
    hook = {"http_path": "/", "http_port": port}
    return job(status=JobStatus.RUNNING, started_at=clock.now_at(), spec=spec(checkpoint=hook))


def soon(reached: Callable[[], bool]) -> None:
    until_seconds = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < until_seconds
        time.sleep(0.01)


def test_a_handler_that_hangs_keeps_no_turn_back_and_is_asked_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(checkpoints, "ASK_BOUND_SECONDS", 2.0)
    log = FakeLog()

    def failed_count(count: int) -> bool:
        return len(log.of("checkpoint_not_asked")) == count

    with handler(silent) as port:
        objects, one = of_one_pod(clock, log), asked(port, clock)
        clock.advance(900)
        began_seconds = time.monotonic()
        for _ in range(20):
            assert objects.ask_checkpoint(one) is None
        assert time.monotonic() - began_seconds < 1.5
        soon(lambda: failed_count(1))
        clock.advance(AGAIN_SECONDS - 1)
        for _ in range(15):
            assert objects.ask_checkpoint(one) is None
            time.sleep(0.05)
        assert failed_count(1)
        clock.advance(1)
        assert objects.ask_checkpoint(one) is None
        soon(lambda: failed_count(2))
        objects.stop()


def test_who_was_told_is_said_until_the_job_knows_it(clock: FakeClock) -> None:
    with handler(slow) as port:
        objects, one = of_one_pod(clock, FakeLog()), asked(port, clock)
        clock.advance(900)
        began_at = clock.now_at()
        assert objects.ask_checkpoint(one) is None
        clock.advance(5)
        soon(lambda: objects.ask_checkpoint(one) is not None)
        assert objects.ask_checkpoint(one) == began_at
        assert objects.ask_checkpoint(replace(one, checkpoint_at=began_at)) is None
        objects.stop()


def test_what_an_earlier_attempt_was_told_is_not_this_ones(clock: FakeClock) -> None:
    askings, one = Askings(clock), asked(8080, clock)
    clock.advance(900)
    askings.begin(one, lambda: True)
    soon(lambda: askings.told_at(one) is not None)
    clock.advance(30)
    assert askings.told_at(replace(one, started_at=clock.now_at())) is None
    askings.stop()
