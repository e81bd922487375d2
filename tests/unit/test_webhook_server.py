"""The HTTPS server: certificates that change while it serves, and answers to whatever is sent."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.adapters import webhook_server
from helpers.adapters.certificates import X509Certificates
from helpers.adapters.metrics import ListenAddress
from helpers.adapters.webhook_server import KEEP_ALIVE_SECONDS, MOST_BODY_BYTES, WebhookServer
from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.domain.errors import InputError
from helpers.ports.webhook import Reply

LOOPBACK = "127.0.0.1"
PATH = "/mutate/privileged"


class Echo:
    """Answers with what it got; `entered` and `leave` hold an answer up."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def serves(self, path: str) -> bool:
        return path == PATH

    def answer(self, path: str, content: bytes) -> Reply:
        self.lengths.append(len(content))
        return Reply(200, "application/json", content[:64])


def issue(lifetime_seconds: float = 3600) -> ServingCertificate:
    return X509Certificates().issue(
        frozenset({LOOPBACK, "localhost"}), now_at=datetime.now(UTC), lifetime_seconds=lifetime_seconds
    )


def trusting(*certificates: ServingCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata="".join(one.authority.pem for one in certificates))
    return context


@contextmanager
def serving(certificate: ServingCertificate | None = None, *, ready: bool = True) -> Iterator[WebhookServer]:
    with WebhookServer(Echo(), ListenAddress(LOOPBACK, 0), ready=lambda: ready) as server:
        if certificate is not None:
            server.install(certificate)
        yield server


def connected(server: WebhookServer, *certificates: ServingCertificate) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(LOOPBACK, server.port, timeout=10, context=trusting(*certificates))


def post(connection: http.client.HTTPSConnection, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    connection.request("POST", PATH, body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


def shown(connection: http.client.HTTPSConnection) -> bytes:
    assert isinstance(connection.sock, ssl.SSLSocket)
    return connection.sock.getpeercert(binary_form=True) or b""


def test_a_new_certificate_is_shown_to_whoever_connects_and_open_connections_stay() -> None:
    first, second = issue(), issue()
    with serving(first) as server:
        old = connected(server, first)
        assert post(old) == (200, b"{}")
        kept = old.sock
        server.install(second)
        assert post(old) == (200, b"{}")
        assert old.sock is kept, "the connection was closed"
        new = connected(server, second)
        assert post(new) == (200, b"{}")
        assert shown(new) != shown(old)
        with pytest.raises(ssl.SSLCertVerificationError):
            post(connected(server, first))


def test_no_handshake_fails_while_certificates_change_without_pause() -> None:
    pool = [issue() for _ in range(4)]
    failed: list[Exception] = []
    stopped = threading.Event()

    def connect() -> None:
        while not stopped.is_set():
            try:
                connection = connected(server, *pool)
                assert post(connection)[0] == 200
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)

    with serving(pool[0]) as server:
        threads = [threading.Thread(target=connect) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(200):
            server.install(pool[number % len(pool)])
        stopped.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_without_a_certificate_there_is_no_handshake_and_the_process_is_alive() -> None:
    with serving() as server:
        assert server.alive()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            http.client.HTTPSConnection(LOOPBACK, server.port, timeout=10, context=context).connect()
        assert server.alive()


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("GET", PATH, "application/json", 405),
        ("PUT", PATH, "application/json", 405),
        ("POST", "/", "application/json", 404),
        ("POST", f"{PATH}/", "application/json", 404),
        ("POST", PATH, "text/plain", 415),
        ("POST", PATH, "", 415),
        ("POST", PATH, "application/json; charset=utf-8", 200),
        ("GET", "/healthz", "", 200),
        ("HEAD", "/readyz", "", 200),
    ],
)
def test_the_status_says_what_was_wrong(method: str, path: str, content_type: str, status: int) -> None:
    certificate = issue()
    with serving(certificate) as server:
        connection = connected(server, certificate)
        connection.request(method, path, b"{}", {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
        # The connection is as good as before.
        assert post(connection) == (200, b"{}")


def test_without_a_valid_certificate_it_is_not_ready() -> None:
    certificate = issue()
    with serving(certificate, ready=False) as server:
        connection = connected(server, certificate)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 503


@pytest.mark.parametrize(("length", "status"), [(MOST_BODY_BYTES, 200), (MOST_BODY_BYTES + 1, 413)])
def test_a_body_may_be_as_long_as_a_review_and_no_longer(length: int, status: int) -> None:
    certificate = issue()
    with serving(certificate) as server:
        assert post(connected(server, certificate), b"x" * length)[0] == status


def test_a_body_without_an_announced_length_is_counted_all_the_same() -> None:
    certificate = issue()
    with serving(certificate) as server:
        connection = connected(server, certificate)
        chunks = (b"x" * 65536 for _ in range(MOST_BODY_BYTES // 65536 + 1))
        connection.request("POST", PATH, chunks, {"Content-Type": "application/json"}, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_who_sends_a_body_too_slowly_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_server, "BODY_BOUND_SECONDS", 0.2)
    certificate = issue()
    with serving(certificate) as server:
        connection = connected(server, certificate)
        connection.putrequest("POST", PATH)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"{")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (408, "close")


def test_a_head_that_never_ends_is_cut_off() -> None:
    certificate = issue()
    with serving(certificate) as server:
        plain = socket.create_connection((LOOPBACK, server.port), timeout=10)
        connection = trusting(certificate).wrap_socket(plain, server_hostname=LOOPBACK)
        connection.sendall(b"POST / HTTP/1.1\r\nX: ")
        sent, answer = 0, b""
        try:
            while sent < 4 * 1024 * 1024:
                connection.sendall(b"x" * 16384)
                sent += 16384
            answer = connection.recv(65536)
        except OSError:
            pass
        assert sent < 4 * 1024 * 1024 or b" 400 " in answer
        assert post(connected(server, certificate)) == (200, b"{}")


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_server, "FIRST_BYTE_BOUND_SECONDS", 0.2)
    certificate = issue()
    with serving(certificate) as server:
        plain = socket.create_connection((LOOPBACK, server.port), timeout=10)
        assert trusting(certificate).wrap_socket(plain, server_hostname=LOOPBACK).recv(1) == b""


def test_an_idle_connection_outlives_the_api_servers_own_patience() -> None:
    """Go's client closes an idle connection after 90 s; if we did it first, a review could be lost."""
    assert KEEP_ALIVE_SECONDS > 90


def test_answers_in_two_segments_do_not_wait_for_an_acknowledgement() -> None:
    """Without TCP_NODELAY this is 40 ms each; every answer is a head and a body."""
    certificate = issue()
    with serving(certificate) as server:
        took = []
        for _ in range(20):
            connection = connected(server, certificate)
            connection.connect()
            began = time.perf_counter()
            post(connection, b"x" * 6000)
            took.append(time.perf_counter() - began)
        assert min(took) < 0.03


def test_at_the_end_answers_ask_the_caller_to_go_elsewhere() -> None:
    certificate = issue()
    server = WebhookServer(Echo(), ListenAddress(LOOPBACK, 0), ready=lambda: True, drain_seconds=5.0)
    with server:
        server.install(certificate)
        connection = connected(server, certificate)
        post(connection)
        ending = threading.Thread(target=server.__exit__)
        ending.start()
        time.sleep(0.3)
        connection.request("POST", PATH, b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        fresh = connected(server, certificate)
        fresh.request("GET", "/readyz")
        assert fresh.getresponse().status == 503
        ending.join()
        with pytest.raises(OSError, match=r"refused|reset"):
            post(connected(server, certificate))


def test_an_address_that_is_taken_is_named() -> None:
    with serving() as server, pytest.raises(InputError, match=rf"127\.0\.0\.1:{server.port} cannot be bound"):
        WebhookServer(Echo(), ListenAddress(LOOPBACK, server.port), ready=lambda: True)


def test_the_key_is_on_no_disk_once_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving(issue()):
        assert list(tmp_path.rglob("*")) == []


def test_a_certificate_is_for_the_names_that_were_asked_for() -> None:
    certificate = issue()
    assert certificate.names == {LOOPBACK, "localhost"}
    with serving(certificate) as server:
        context = trusting(certificate)
        with urllib.request.urlopen(f"https://localhost:{server.port}/healthz", context=context) as answer:
            assert answer.read() == b"ok\n"


def test_a_certificate_is_read_back_as_it_was_issued() -> None:
    certificates, issued = X509Certificates(), issue(7200)
    read = certificates.read(
        chain_pem=issued.chain_pem.encode(),
        key_pem=issued.key_pem.encode(),
        authority_pem=issued.authority.pem.encode(),
    )
    assert read == issued
    assert read.due_at == issued.not_before_at + timedelta(seconds=4800)
    assert certificates.authorities(issued.authority.pem + "rubbish") == (issued.authority,)


@pytest.mark.parametrize(
    ("which", "said"),
    [("key_pem", "tls.key is not the key of tls.crt"), ("authority_pem", "tls.crt was not signed by ca.crt")],
)
def test_what_does_not_belong_together_is_refused(which: str, said: str) -> None:
    one, other = issue(), issue()
    parts = {"chain_pem": one.chain_pem, "key_pem": one.key_pem, "authority_pem": one.authority.pem}
    parts[which] = {"key_pem": other.key_pem, "authority_pem": other.authority.pem}[which]
    with pytest.raises(InputError, match=said):
        X509Certificates().read(**{key: text.encode() for key, text in parts.items()})


def test_no_certificate_shows_its_key_when_it_is_printed() -> None:
    certificate = issue()
    assert "PRIVATE KEY" not in json.dumps(repr(certificate))
