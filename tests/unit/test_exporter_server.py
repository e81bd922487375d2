"""The server that scrapes meet."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from helpers.apps.exporter.server import MetricsServer
from lab.waiting import BOUND_SECONDS, wait_for


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    made = MetricsServer("127.0.0.1", 0, metrics=lambda: b"x 1\n", healthy=lambda: False)
    made.start()
    yield made
    made.close()


def status(port: int, path: str, method: str = "GET") -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND_SECONDS)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_an_unhealthy_process_says_so_and_still_serves_what_it_has(server: MetricsServer) -> None:
    assert status(server.port, "/healthz") == 503
    assert status(server.port, "/metrics?x=1") == 200


def test_what_is_no_request_of_ours_leaves_no_line_in_the_log(
    server: MetricsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(server.port, "/metrics", "POST") == 501
    assert capsys.readouterr().err == ""


def test_a_crowd_of_idle_connections_is_bounded_and_passes(server: MetricsServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=BOUND_SECONDS) for _ in range(16)]
    wait_for(lambda: status(server.port, "/metrics") is None)
    for connection in idle:
        connection.close()
    wait_for(lambda: status(server.port, "/metrics") == 200)


def test_ipv6_is_an_address_like_any_other() -> None:
    try:
        made = MetricsServer("::1", 0, metrics=lambda: b"", healthy=lambda: True)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    made.start()
    with socket.create_connection(("::1", made.port), timeout=BOUND_SECONDS) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200" in connection.recv(100)
    made.close()
