"""Release hooks: what a tenant is asked, over HTTP or by a command, and what counts as a yes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.adapters.release_hook import TenantReleaseHooks
from helpers.domain.errors import ClusterError
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import CommandEnded
from helpers.ports.release_hook import HookTarget

Request = tuple[str, str, str]


def at(address: str = "127.0.0.1") -> HookTarget:
    return HookTarget("ml", "ml-0", "main", address)


@contextmanager
def tenant(answers: Callable[[Request], tuple[int, str]]) -> Iterator[tuple[int, list[Request]]]:
    asked: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked.append((self.command, self.path, body))
            status, text = answers(asked[-1])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that gave up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_hook_is_sent_as_the_estate_says_it() -> None:
    with tenant(lambda _: (200, "asleep")) as (port, asked):
        hook = ReleaseHook(port=port, path="/sleep?level=1")
        answer = TenantReleaseHooks().call(hook, at(), 5)
    assert (answer.ok, answer.text) == (True, "200 asleep")
    assert asked == [("POST", "/sleep?level=1", "")]


def test_ollama_is_asked_to_unload_each_model_that_is_loaded() -> None:
    loaded = json.dumps({"models": [{"name": "llama3:8b"}, {"name": "nomic"}]})
    with tenant(lambda asked: (200, loaded if asked[1] == "/api/ps" else "{}")) as (port, asked):
        hook = ReleaseHook(port=port, path="/api/generate", body='{"keep_alive": 0}')
        answer = TenantReleaseHooks().call(hook, at(), 5)
    assert answer.ok
    assert [json.loads(body) for _, _, body in asked[1:]] == [
        {"keep_alive": 0, "model": "llama3:8b"},
        {"keep_alive": 0, "model": "nomic"},
    ]


def test_ollama_without_a_loaded_model_has_nothing_to_give() -> None:
    with tenant(lambda _: (200, '{"models": []}')) as (port, _):
        hook = ReleaseHook(port=port, path="/api/generate", body='{"keep_alive": 0}')
        assert TenantReleaseHooks().call(hook, at(), 5).text == "no model is loaded"


def test_a_named_ollama_model_is_unloaded_alone() -> None:
    body = '{"model": "llama3:8b", "keep_alive": 0}'
    with tenant(lambda _: (200, "{}")) as (port, asked):
        assert TenantReleaseHooks().call(ReleaseHook(port=port, path="/api/generate", body=body), at(), 5).ok
    assert asked == [("POST", "/api/generate", body)]


@pytest.mark.parametrize("status", [301, 404, 503])
def test_a_hook_that_is_refused_is_no_success(status: int) -> None:
    with tenant(lambda _: (status, "no")) as (port, asked):
        answer = TenantReleaseHooks().call(ReleaseHook(port=port), at(), 5)
    assert not answer.ok
    assert str(status) in answer.text
    assert len(asked) == 1


def test_a_hook_that_does_not_answer_in_time_is_no_success() -> None:
    ended = threading.Event()
    with tenant(lambda _: (ended.wait(10), (200, ""))[1]) as (port, _):
        answer = TenantReleaseHooks().call(ReleaseHook(port=port), at(), 0.2)
        ended.set()
    assert not answer.ok


def test_a_command_is_refused_with_the_reason_where_none_are_allowed() -> None:
    answer = TenantReleaseHooks().call(ReleaseHook(command=("release",)), at(), 5)
    assert not answer.ok
    assert "allow_exec" in answer.text


def test_a_pod_without_an_address_is_not_asked() -> None:
    assert "no address" in TenantReleaseHooks().call(ReleaseHook(port=1), at(""), 5).text


class FakeCommands:
    """Remembers what was run; `answer` is called for each."""

    def __init__(self, answer: Callable[[], CommandEnded]) -> None:
        self.answer = answer
        self.ran: list[tuple[ObjectRef, str, Sequence[str], float]] = []

    def run(self, pod: ObjectRef, container: str, command: Sequence[str], timeout_seconds: float) -> CommandEnded:
        self.ran.append((pod, container, command, timeout_seconds))
        return self.answer()


COMMAND = ReleaseHook(command=("python", "/app/unload.py", "--all"))


def test_a_command_is_run_in_the_workloads_container_and_needs_no_address() -> None:
    commands = FakeCommands(lambda: CommandEnded(0, "unloaded\n2 models\n"))
    answer = TenantReleaseHooks(commands).call(COMMAND, at(""), 7)
    assert (answer.ok, answer.text) == (True, "exit status 0 unloaded 2 models")
    assert commands.ran == [(ObjectRef("v1", "Pod", "ml-0", "ml"), "main", COMMAND.command, 7)]


def test_a_command_that_ends_badly_is_no_success_and_says_with_which_status() -> None:
    answer = TenantReleaseHooks(FakeCommands(lambda: CommandEnded(3, "no such model"))).call(COMMAND, at(), 5)
    assert (answer.ok, answer.text) == (False, "exit status 3 no such model")


def test_long_output_is_cut_to_what_fits_into_an_event() -> None:
    answer = TenantReleaseHooks(FakeCommands(lambda: CommandEnded(0, "x" * 5000))).call(COMMAND, at(), 5)
    assert answer.ok
    assert len(answer.text) < 150


def test_a_command_that_could_not_be_run_is_no_success_and_no_error() -> None:
    def refused() -> CommandEnded:
        raise ClusterError("exec in Pod ml/ml-0 (main): no end in time")

    answer = TenantReleaseHooks(FakeCommands(refused)).call(COMMAND, at(), 5)
    assert not answer.ok
    assert "no end in time" in answer.text
