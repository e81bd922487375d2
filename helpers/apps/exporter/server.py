"""`/metrics` and `/healthz`: a scrape gets what the last round left, and never waits for a driver."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.domain.telemetry.exposition import CONTENT_TYPE

_MOST_CONNECTIONS = 16
_REQUEST_SECONDS = 5.0

Answer = tuple[HTTPStatus, str, bytes]


class MetricsServer:
    """Serves on `address:port` until closed.

    Args:
        metrics: The text of a scrape.
        healthy: Whether rounds are still being made.
    """

    def __init__(self, address: str, port: int, *, metrics: Callable[[], bytes], healthy: Callable[[], bool]) -> None:
        handler = type("Handler", (_Handler,), {"answers": _Answers(metrics, healthy)})
        room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        server = type("Server", (_Server,), {"address_family": _family(address), "room": room})
        self._server: ThreadingHTTPServer = server((address, port), handler)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Begins to serve, in threads of its own."""
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True, args=(0.1,)).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class _Answers:
    def __init__(self, metrics: Callable[[], bytes], healthy: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._healthy = healthy

    def to(self, path: str) -> Answer:
        """The answer to a GET."""
        route = path.partition("?")[0]
        if route == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, self._metrics()
        if route == "/healthz":
            healthy = self._healthy()
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return status, "text/plain", b"ok\n" if healthy else b"no round of sampling was finished in time\n"
        return HTTPStatus.NOT_FOUND, "text/plain", b"there are /metrics and /healthz\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    room: threading.BoundedSemaphore

    def process_request(self, request: object, client_address: object) -> None:
        # Each connection is a thread: a crowd of idle ones must not grow into memory.
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _REQUEST_SECONDS
    answers: _Answers

    def do_GET(self) -> None:
        """Answers a GET."""
        status, kind, body = self.answers.to(self.path)
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: stderr holds one JSON object a line, and a bad request is no event of ours."""
