"""Prometheus metrics, in base units (bytes, seconds), each app with a registry of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prometheus_client as prometheus

from helpers.domain.errors import InputError
from helpers.domain.memory import mib_to_bytes


def new_registry(component: str, version: str) -> prometheus.CollectorRegistry:
    """An empty registry but for the build's own line."""
    registry = prometheus.CollectorRegistry()
    build = prometheus.Gauge(
        "gpumem_build_info", "Which component and version runs; always 1.", ["component", "version"], registry=registry
    )
    build.labels(component=component, version=version).set(1)
    return registry


class PrometheusCapacityMetrics:
    """`ports.capacity_metrics.CapacityMetrics`."""

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        self._asserts = prometheus.Counter(
            "gpumem_capacity_asserts",  # the library appends _total
            "Decisions about a node that were carried out, by outcome.",
            ["node", "outcome"],
            registry=registry,
        )
        self._advertised = prometheus.Gauge(
            "gpumem_capacity_advertised_bytes",
            "GPU memory that the node shows as capacity.",
            ["node"],
            registry=registry,
        )
        self._succeeded = prometheus.Gauge(
            "gpumem_capacity_last_success_timestamp_seconds",
            "When all nodes were last seen as declared, seconds since the epoch.",
            registry=registry,
        )

    def asserted(self, node: str, outcome: str) -> None:
        """Counts one decision."""
        self._asserts.labels(node=node, outcome=outcome).inc()

    def advertised(self, node: str, advertised_mib: int | None) -> None:
        """Shows the node's number; its series ends where there is none."""
        if advertised_mib is None:
            with contextlib.suppress(KeyError):  # it never showed a number
                self._advertised.remove(node)
        else:
            self._advertised.labels(node=node).set(mib_to_bytes(advertised_mib))

    def succeeded(self, at: datetime) -> None:
        """Remembers the instant."""
        self._succeeded.set(at.timestamp())


@dataclass(frozen=True)
class ListenAddress:
    """Where metrics are served. Loopback unless a pod says otherwise; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """`127.0.0.1:9410`, `[::1]:9410`, or `:9410` for every address.

        Raises:
            InputError: it is nothing of that form.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InputError(f"metrics address {text!r} is not HOST:PORT, such as 127.0.0.1:9410 or :9410")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - asked for by leaving the host out


@contextlib.contextmanager
def served(
    registry: prometheus.CollectorRegistry,
    address: ListenAddress,
    healthy: Callable[[], bool],
    ready: Callable[[], bool] | None = None,
) -> Iterator[int]:
    """Serves `/metrics`, and `/healthz` and `/readyz` (200 while `healthy()` or `ready()`, else 503); gives the port.

    Without `ready` there is no `/readyz`.

    Raises:
        InputError: the address cannot be bound.
    """
    with serving(bound(address, _handler(registry, healthy, ready)), name="metrics") as port:
        yield port


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer, *, name: str) -> Iterator[int]:
    """Serves in a thread called `name` until the block ends; gives the port."""
    thread = threading.Thread(target=server.serve_forever, name=name, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bound(
    address: ListenAddress, handler: type[BaseHTTPRequestHandler], *, option: str = "--metrics-address"
) -> ThreadingHTTPServer:
    """A server that listens on `address` and does not serve yet; `option` is how to choose another address.

    Raises:
        InputError: the address cannot be bound.
    """
    try:
        return _Server(address, handler)
    except OSError as error:
        raise InputError(
            f"metrics address {address.host}:{address.port} cannot be bound: {error.strerror or error}. "
            f"Choose another with {option}."
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: ListenAddress, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), handler)


def _handler(
    registry: prometheus.CollectorRegistry, healthy: Callable[[], bool], ready: Callable[[], bool] | None
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                well = healthy()
                self._answer(200 if well else 503, "text/plain", b"ok\n" if well else b"stuck\n")
            elif self.path == "/readyz" and ready is not None:
                well = ready()
                self._answer(200 if well else 503, "text/plain", b"ok\n" if well else b"not ready\n")
            elif self.path == "/metrics":
                self._answer(200, prometheus.CONTENT_TYPE_LATEST, prometheus.generate_latest(registry))
            else:
                self._answer(404, "text/plain", b"/metrics or /healthz\n")

        def _answer(self, status: int, content_type: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: a line for every scrape would drown the log."""

    return Handler
