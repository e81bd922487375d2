"""An ASGI application on uvicorn, in a thread of its own, while a `with` block lasts."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn

from helpers.adapters.metrics import ListenAddress
from helpers.domain.errors import InputError

START_BOUND_SECONDS = 30.0
SHUTDOWN_BOUND_SECONDS = 5
# A request of a few fields; a longer one is a mistake or an attack.
MOST_BODY_BYTES = 16 * 1024
# One more than this at once is told to come again (503).
MOST_AT_ONCE_COUNT = 512


@contextlib.contextmanager
def asgi_served(
    application: Any,
    address: ListenAddress,
    *,
    name: str,
    option: str,
    tls_folder: Path | None = None,
    most_body_bytes: int = MOST_BODY_BYTES,
) -> Iterator[int]:
    """Serves `application`; gives the port. `option` is how to choose another address.

    Args:
        application: What answers.
        address: Where to listen.
        name: The thread's.
        option: The command line's name of the address, for messages.
        tls_folder: Where `tls.crt` and `tls.key` lie; None: plain HTTP.
        most_body_bytes: A longer body is turned away.

    Raises:
        InputError: the address cannot be bound, or the certificate cannot be read.
    """
    certificate, key = (None, None) if tls_folder is None else _tls(tls_folder)
    config = uvicorn.Config(
        _Bounded(application, most_body_bytes),
        host=address.host,
        port=address.port,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_AT_ONCE_COUNT,
        timeout_graceful_shutdown=SHUTDOWN_BOUND_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    # Its lines are not JSON, and its warnings are about other people's bad requests.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_run, args=(server,), name=name, daemon=True)
    thread.start()
    until_seconds = time.monotonic() + START_BOUND_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until_seconds:
            raise InputError(
                f"address {address.host}:{address.port} cannot be served, it may be in use. "
                f"Choose another with {option}."
            )
        time.sleep(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(SHUTDOWN_BOUND_SECONDS + 5)


class _Bounded:
    """Turns away bodies that are too long, or of which nobody knows how long they are."""

    def __init__(self, application: Any, most_body_bytes: int) -> None:
        self._application = application
        self._most_body_bytes = most_body_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers") or ())
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers:
            await self._refuse(send, HTTPStatus.LENGTH_REQUIRED)
        elif not length.isdigit() or int(length) > self._most_body_bytes:
            await self._refuse(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            await self._application(scope, receive, send)

    async def _refuse(self, send: Any, status: HTTPStatus) -> None:
        rule = f"{status.phrase}: a body has at most {self._most_body_bytes} bytes, and says how many"
        problem = {"place": "body", "value": "", "rule": rule, "repair": "send less, with a Content-Length"}
        body = json.dumps({"error": rule, "errors": [problem]}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _run(server: uvicorn.Server) -> None:
    with contextlib.suppress(SystemExit):  # how uvicorn says that it could not bind; seen above
        server.run()


def _tls(folder: Path) -> tuple[str, str]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    for file in (certificate, key):
        if not file.is_file():
            raise InputError(f"{file}: no such file. Mount a Secret of kubernetes.io/tls at {folder}.")
    return str(certificate), str(key)
