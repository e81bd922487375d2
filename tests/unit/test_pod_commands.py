"""Commands in containers, over a real websocket: what came of them, and that nothing makes them endless."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.adapters.kubernetes_.commands import KubernetesCommands, connect_commands
from helpers.domain.errors import ClusterError, Forbidden, NotFound
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import CommandEnded
from lab.plain_kubeconfig import write_kubeconfig
from tests.fakes.exec_server import ERR, OUT, STATUS, ExecServer, Send, ended, exec_server

POD = ObjectRef("v1", "Pod", "ml-0", "ml")


@pytest.fixture
def server() -> Iterator[ExecServer]:
    with exec_server() as script:
        yield script


@pytest.fixture
def commands(server: ExecServer, tmp_path: Path) -> KubernetesCommands:
    return connect_commands(write_kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"))


def test_a_command_is_sent_word_by_word_to_its_container(server: ExecServer, commands: KubernetesCommands) -> None:
    server.talk = lambda send: send(STATUS, ended(0))
    assert commands.run(POD, "main", ["sh", "-c", "echo a b"], 5) == CommandEnded(0, "")
    ((path, query),) = server.asked
    assert path == "/api/v1/namespaces/ml/pods/ml-0/exec"
    assert query["command"] == ["sh", "-c", "echo a b"]
    assert query["container"] == ["main"]
    assert (query["stdin"], query["tty"]) == (["false"], ["false"])


def test_both_streams_and_the_exit_status_come_back(server: ExecServer, commands: KubernetesCommands) -> None:
    def talk(send: Send) -> None:
        send(OUT, b"unloading\n")
        send(ERR, b"it is busy\n")
        send(STATUS, ended(75))

    server.talk = talk
    assert commands.run(POD, "main", ["release"], 5) == CommandEnded(75, "unloading\nit is busy\n")


def test_output_that_the_status_overtook_is_not_lost(server: ExecServer, commands: KubernetesCommands) -> None:
    def talk(send: Send) -> None:
        send(STATUS, ended(0))
        send(OUT, b"late")

    server.talk = talk
    assert commands.run(POD, "main", ["release"], 5).output == "late"


def test_a_flood_of_output_is_cut_and_its_end_still_awaited(server: ExecServer, commands: KubernetesCommands) -> None:
    def talk(send: Send) -> None:
        for _ in range(2000):
            send(OUT, b"x" * 30_000)
        send(STATUS, ended(0))

    server.talk = talk
    done = commands.run(POD, "main", ["yes"], 30)
    assert (done.exit_status, set(done.output)) == (0, {"x"})
    assert len(done.output) == 4096


def test_a_flood_that_does_not_end_is_left_in_time(server: ExecServer, commands: KubernetesCommands) -> None:
    def talk(send: Send) -> None:
        while True:  # until the client has gone
            send(OUT, b"x" * 30_000)

    server.talk = talk
    began = time.monotonic()
    with pytest.raises(ClusterError, match="no end in time"):
        commands.run(POD, "main", ["yes"], 0.5)
    assert time.monotonic() - began < 3


def test_a_command_that_says_nothing_is_left_in_time(server: ExecServer, commands: KubernetesCommands) -> None:
    server.talk = lambda send: time.sleep(5)
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"exec in Pod ml/ml-0 \(main\): no end in time; the command may go on"):
        commands.run(POD, "main", ["sleep", "5"], 0.3)
    assert time.monotonic() - began < 3


def test_a_program_that_is_not_there_is_an_error_in_the_kubelets_words(
    server: ExecServer, commands: KubernetesCommands
) -> None:
    words = b'{"status":"Failure","message":"executable file not found in $PATH","details":{"causes":[{}]}}'
    server.talk = lambda send: send(STATUS, words)
    with pytest.raises(ClusterError, match="executable file not found"):
        commands.run(POD, "main", ["nosuch"], 5)


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"details":{}}'])
def test_a_connection_that_ends_without_a_status_is_no_success(
    server: ExecServer, commands: KubernetesCommands, content: bytes
) -> None:
    server.talk = lambda send: send(STATUS, content)
    with pytest.raises(ClusterError, match="without the command's exit status"):
        commands.run(POD, "main", ["release"], 5)


def test_a_missing_right_names_both_verbs(server: ExecServer, commands: KubernetesCommands) -> None:
    # What Kubernetes 1.36 says where `get` is there and `create` is not.
    server.refuse = (403, {"kind": "Status", "message": 'pods "ml-0" is forbidden: ', "code": 403})
    with pytest.raises(Forbidden, match="get and create on pods/exec in ml"):
        commands.run(POD, "main", ["release"], 5)


def test_a_pod_that_is_gone_is_not_found(server: ExecServer, commands: KubernetesCommands) -> None:
    server.refuse = (404, {"kind": "Status", "message": 'pods "ml-0" not found', "code": 404})
    with pytest.raises(NotFound, match="not found"):
        commands.run(POD, "main", ["release"], 5)


def test_an_api_that_is_not_there_is_a_dependency_that_does_not_answer(tmp_path: Path) -> None:
    with exec_server() as closed:
        port = closed.port
    with pytest.raises(ClusterError, match="does not answer"):
        connect_commands(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")).run(POD, "main", ["release"], 5)
