"""The node's pods over HTTP, and what is remembered of them."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.adapters.kubelet_pods import ApiPods, HttpAccess, KubeletPods
from helpers.domain.errors import DependencyError, Forbidden, InputError
from helpers.services.pod_cache import PodCache
from lab.pki import Authority, KeyPair
from tests.fakes.telemetry import RESOURCE, FakeClock, FakeLog, FakePods, pod


class Server:
    """A server on loopback: what it answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps({"items": [pod(1)]}).encode()
        self.asked: list[tuple[str, str | None]] = []
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response_only(served.status)
                self.send_header("Content-Length", str(len(served.body)))
                self.end_headers()
                self.wfile.write(served.body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def use_tls(self, pair: KeyPair) -> None:
        """From now on https with that certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http://", "https://")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_the_kubelet_is_asked_with_the_token_as_it_is_now(server: Server, tmp_path: Path) -> None:
    server.use_tls(Authority.create(tmp_path, "ca").server("kubelet"))
    token = tmp_path / "token"
    pods = KubeletPods(HttpAccess(server.url, token, tmp_path / "ca.crt"))
    for text in ("first\n", "rotated\n"):
        token.write_text(text)
        assert [one["metadata"]["name"] for one in pods.pods()] == ["pod-1"]
    assert server.asked == [("/pods", "Bearer first"), ("/pods", "Bearer rotated")]


def test_a_token_is_never_sent_in_clear_text(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    KubeletPods(HttpAccess(server.url, tmp_path / "token")).pods()
    assert server.asked == [("/pods", None)]


def test_the_api_is_asked_for_this_nodes_pods_only(server: Server) -> None:
    assert ApiPods(HttpAccess(server.url), "t4-node").pods()
    assert server.asked == [("/api/v1/pods?resourceVersion=0&fieldSelector=spec.nodeName%3Dt4-node", None)]


def test_a_refusal_names_place_and_answer(server: Server) -> None:
    server.status, server.body = 403, b'pods is forbidden: User "gpumem-exporter" cannot list'
    with pytest.raises(Forbidden, match=r"GET http://127.*/pods: 403 pods is forbidden"):
        KubeletPods(HttpAccess(server.url)).pods()


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"kind": "Status"}', b'{"items": 3}'])
def test_an_answer_that_is_no_list_of_pods_is_an_error_and_not_an_empty_node(server: Server, body: bytes) -> None:
    server.body = body
    with pytest.raises(DependencyError, match="no list of pods"):
        KubeletPods(HttpAccess(server.url)).pods()


def test_an_empty_list_as_go_writes_it_is_an_empty_node(server: Server) -> None:
    server.body = b'{"kind": "PodList", "items": null}'
    assert KubeletPods(HttpAccess(server.url)).pods() == []


def test_a_server_error_and_nobody_there_are_unreachable(server: Server) -> None:
    server.status = 500
    with pytest.raises(DependencyError, match="500"):
        KubeletPods(HttpAccess(server.url)).pods()
    server.close()
    with pytest.raises(DependencyError, match="GET http://127"):
        KubeletPods(HttpAccess(server.url)).pods()


def test_a_kubelet_that_signs_its_own_certificate_is_refused_unless_that_is_accepted(
    server: Server, tmp_path: Path
) -> None:
    server.use_tls(Authority.create(tmp_path, "ca").server("kubelet"))
    with pytest.raises(DependencyError, match="CERTIFICATE_VERIFY_FAILED"):
        KubeletPods(HttpAccess(server.url)).pods()
    assert KubeletPods(HttpAccess(server.url, ca_file=tmp_path / "ca.crt")).pods()
    assert KubeletPods(HttpAccess(server.url, insecure=True)).pods()


def test_a_url_without_a_host_is_bad_input() -> None:
    with pytest.raises(InputError, match="must be http"):
        KubeletPods(HttpAccess("localhost:10250")).pods()


def cache(pods: FakePods, log: FakeLog | None = None) -> PodCache:
    return PodCache(
        pods, resource=RESOURCE, interval_seconds=3600.0, clock=FakeClock(), log=log or FakeLog(), gap_seconds=0.01
    )


def test_asking_waits_for_a_list_that_began_after_the_question() -> None:
    pods = FakePods([pod(1)])
    made = cache(pods)
    made.start()
    first, fresh = made.ask(60.0)
    assert fresh
    assert first.directory is not None
    pods.items = [pod(1), pod(2)]
    second, fresh = made.ask(60.0)
    made.stop()
    assert fresh
    assert second.directory is not None
    assert len(second.directory.containers) == 2


def test_a_list_that_fails_keeps_the_last_one_and_is_not_fresh() -> None:
    pods, log = FakePods([pod(1)]), FakeLog()
    made = cache(pods, log)
    made.start()
    made.ask(60.0)
    pods.items = None
    state, fresh = made.ask(60.0)
    made.stop()
    assert (fresh, state.up) == (False, False)
    assert state.directory is not None
    assert log.events() == ["pods_unreadable"]


def test_a_question_is_not_answered_later_than_its_time() -> None:
    state, fresh = cache(FakePods([pod(1)])).ask(0.05)  # nobody reads: the thread was not started
    assert (state.directory, fresh) == (None, False)
