"""A running pod is told to save its state: by a signal to its first process, or by a request."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from helpers.adapters.job_engines.checkpoints import CheckpointHooks
from helpers.domain.errors import ClusterError
from helpers.domain.jobs.spec import Checkpoint
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import CommandEnded
from tests.fakes.outside import FakeLog

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
    assert CheckpointHooks(commands, log).ask(SIGNAL, pod())
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
    assert not CheckpointHooks(FakeCommands(ended), log).ask(SIGNAL, pod())
    assert reason in str(log.of("checkpoint_not_asked")[0]["reason"])


def test_who_may_not_run_commands_says_so() -> None:
    log = FakeLog()
    assert not CheckpointHooks(None, log).ask(SIGNAL, pod())
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
    told = CheckpointHooks(None, log).ask(Checkpoint(http_path=path, http_port=port), pod(address))
    assert told is not bool(reason)
    assert all(reason in str(line["reason"]) for line in log.of("checkpoint_not_asked"))
