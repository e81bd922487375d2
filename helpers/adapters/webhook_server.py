"""The webhook's HTTPS server: uvicorn around one small ASGI application, in a thread of its own.

The certificate is changed on the live TLS context, by the thread that makes the handshakes: loading
it takes two steps, and a handshake between them would see a certificate without its key. Connections
that are open stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from helpers.adapters.metrics import ListenAddress
from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.domain.errors import InputError
from helpers.ports.webhook import Reply, Reviews

# An API server takes requests of 3 MiB; a review has a little more around the object.
MOST_BODY_BYTES = 3 * 1024 * 1024 + 512 * 1024
# The rest of a body that is too long is read and thrown away, so that the sender sees the answer.
MOST_DISCARDED_BYTES = 4 * MOST_BODY_BYTES
BODY_BOUND_SECONDS = 5.0
MOST_HEAD_BYTES = 64 * 1024
# How long a new connection may say nothing.
FIRST_BYTE_BOUND_SECONDS = 30.0
# Longer than the 90 s after which an API server's client closes an idle connection: if we closed it
# first, a review that was being sent at that moment would be lost, and it is not sent again.
KEEP_ALIVE_SECONDS = 120
SHUTDOWN_BOUND_SECONDS = 5
START_BOUND_SECONDS = 30.0
INSTALL_BOUND_SECONDS = 10.0
# How long the loop may be silent before it counts as stuck; the kubelet asks every 20 s.
STUCK_AFTER_SECONDS = 60.0

_JSON = b"application/json"

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class WebhookServer:
    """Serves `reviews` on `address` while the `with` block lasts.

    Args:
        reviews: Answers what is posted.
        address: Where to listen.
        ready: What GET /readyz says.
        drain_seconds: At the end: how long answers go on, each asking the caller to connect elsewhere,
            until no API server is sent here any more.

    Raises:
        InputError: the address cannot be bound.
    """

    def __init__(
        self, reviews: Reviews, address: ListenAddress, *, ready: Callable[[], bool], drain_seconds: float = 0.0
    ) -> None:
        self._drain_seconds = drain_seconds
        self._context = _tls_context()
        self._application = _Application(reviews, ready)
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_BOUND_SECONDS,
            ssl_context_factory=lambda _config, _default: self._context,
        )
        # Its warnings are about other people's bad requests; a line for each would drown the log.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config)
        self._socket = _bound(address)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._felt_seconds = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._socket_port
        return port

    def __enter__(self) -> WebhookServer:
        self._socket_port = self._socket.getsockname()[1]
        self._thread.start()
        until_seconds = time.monotonic() + START_BOUND_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until_seconds:
                raise InputError("the webhook's server did not start; see the lines above")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._application.draining = True
        if self._thread.is_alive() and self._drain_seconds:
            time.sleep(self._drain_seconds)
        self._server.should_exit = True
        self._thread.join(SHUTDOWN_BOUND_SECONDS + 5)

    def install(self, certificate: ServingCertificate) -> None:
        """Shows this certificate to whoever connects from now on."""
        loop, done = self._loop, Future[None]()
        if loop is None:
            _load(self._context, certificate)
            return

        def load() -> None:
            try:
                _load(self._context, certificate)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                done.set_exception(error)
            else:
                done.set_result(None)

        loop.call_soon_threadsafe(load)
        done.result(INSTALL_BOUND_SECONDS)

    def alive(self) -> bool:
        """Whether the loop turns. Each question also asks the loop for a sign of life, seen by the next one."""
        loop = self._loop
        if loop is None or not self._thread.is_alive():
            return False
        with contextlib.suppress(RuntimeError):  # it has just been closed
            loop.call_soon_threadsafe(self._feel)
        return time.monotonic() - self._felt_seconds < STUCK_AFTER_SECONDS

    def _feel(self) -> None:
        self._felt_seconds = time.monotonic()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with an end to heads that never end and to connections that never say anything."""

    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: Any) -> None:
        """Begins the clock that otherwise begins after the first answer."""
        super().connection_made(_OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self.timeout_keep_alive_task = self.loop.call_later(FIRST_BYTE_BOUND_SECONDS, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Counts what belongs to a head that is not whole yet."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")


class _OneWrite:
    """A transport that sends at once what is written within one turn of the loop.

    uvicorn writes an answer's head and body apart, which is two TLS records, two system calls and two
    segments: a tenth of the time of a review.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends it with whatever else is written before the loop turns."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Ends the connection after what was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))


class _Application:
    """POST of a review, GET of /healthz and /readyz; everything else gets the status that says why."""

    def __init__(self, reviews: Reviews, ready: Callable[[], bool]) -> None:
        self._reviews = reviews
        self._ready = ready
        self.draining = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        reply = await self._reply(scope, receive)
        if reply is None:
            return  # who asked is gone
        headers = [(b"content-type", reply.content_type.encode()), (b"content-length", b"%d" % len(reply.content))]
        if self.draining or reply.status == HTTPStatus.REQUEST_TIMEOUT:
            headers.append((b"connection", b"close"))
        if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        content = b"" if scope["method"] == "HEAD" else reply.content
        await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _reply(self, scope: dict[str, Any], receive: Receive) -> Reply | None:
        path, method = scope["path"], scope["method"]
        if path in ("/healthz", "/readyz") and method in ("GET", "HEAD"):
            return self._health(path)
        if not self._reviews.serves(path):
            return _text(HTTPStatus.NOT_FOUND, "there is nothing here")
        if method != "POST":
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "reviews are posted")
        if _header(scope, b"content-type").split(b";")[0].strip().lower() != _JSON:
            return _text(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a review is application/json")
        try:
            async with asyncio.timeout(BODY_BOUND_SECONDS):
                content = await _body(receive)
        except TimeoutError:
            return _text(HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {BODY_BOUND_SECONDS:g} s")
        except _TooLarge:
            text = f"a review has at most {MOST_BODY_BYTES} bytes"
            return _text(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        except _Gone:
            return None
        return self._reviews.answer(path, content)

    def _health(self, path: str) -> Reply:
        if path == "/readyz" and not (self._ready() and not self.draining):
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, "no valid certificate, or about to end")
        return _text(HTTPStatus.OK, "ok")


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    pass


async def _body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        _TooLarge: it is longer than a review may be.
        _Gone: the sender went away.
    """
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        length += len(message["body"])
        if length > MOST_DISCARDED_BYTES:
            break
        if length <= MOST_BODY_BYTES:
            parts.append(message["body"])
        else:
            parts.clear()
        more = message.get("more_body", False)
    if length > MOST_BODY_BYTES:
        raise _TooLarge
    return b"".join(parts)


def _header(scope: dict[str, Any], name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _text(status: HTTPStatus, text: str) -> Reply:
    return Reply(status, "text/plain", f"{text}\n".encode())


def _tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, certificate: ServingCertificate) -> None:
    # The ssl module reads files only. This one is gone again at once; in a pod /tmp is in memory.
    with tempfile.TemporaryDirectory(prefix="gpumem-") as folder:  # mode 0700
        path = Path(folder) / "tls.pem"
        path.write_text(certificate.key_pem + certificate.chain_pem)
        context.load_cert_chain(path)


def _bound(address: ListenAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off; without, an answer in two segments waits
    # up to 40 ms for the first one's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"address {address.host}:{address.port} cannot be bound: {error.strerror or error}. "
            "Choose another with --listen-address."
        ) from error
    return listener
