"""The HTTP endpoints of simulated pods: real sockets on each pod's own loopback address.

One thread waits on all listening sockets; a thread lives only as long as one connection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

LISTEN_BACKLOG = 16
IDLE_SECONDS = 30.0
HIGHEST_BODY_BYTES = 1 << 20
FIRST_OCTET, LAST_OCTET = 64, 127
ADDRESSES_PER_OCTET = 250 * 250


class EndpointError(Exception):
    """A pod's port cannot be listened on; the message says which and why."""


class Answers(Protocol):
    """What a pod says to a request; called from the connection's own thread."""

    def answer(self, port: int, method: str, path: str, body: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body."""
        ...


class Endpoints(threading.Thread):
    """All listening sockets of all pods of a lab, and the addresses that pods have."""

    def __init__(self) -> None:
        super().__init__(name="pod endpoints", daemon=True)
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._listening: dict[str, list[socket.socket]] = {}
        self._addresses: dict[str, str] = {}
        self._lock = threading.Lock()
        # Labs side by side start in different places; a pod with ports moves on where it collides.
        self._next = (os.getpid() % (LAST_OCTET - FIRST_OCTET)) * ADDRESSES_PER_OCTET

    def open(self, uid: str, ports: Sequence[int], answers: Answers, address: str | None = None) -> str:
        """Gives a pod an address in 127.0.0.0/8 and listens on its ports; returns the address.

        Args:
            uid: The pod's uid.
            ports: TCP ports that its containers declare.
            answers: What the pod says.
            address: The address that it had before this process was started again.

        Raises:
            EndpointError: A port cannot be listened on (privileged, too many files).
        """
        while True:
            chosen = address or self._free_address(uid)
            try:
                sockets = _listen(chosen, ports)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and address is None:
                    continue  # another lab's pod has this address
                self.close(uid)
                text = ", ".join(str(port) for port in ports)
                raise EndpointError(f"cannot listen on {chosen}, ports {text}: {error.strerror}") from error
            with self._lock:
                self._addresses[chosen] = uid
                self._listening[uid] = sockets
                for port, listener in zip(ports, sockets, strict=True):
                    self._selector.register(listener, selectors.EVENT_READ, (port, answers))
            if sockets:
                self._wake_writer.send(b"+")
            return chosen

    def close(self, uid: str) -> None:
        """Stops listening for a pod and frees its address."""
        with self._lock:
            for listener in self._listening.pop(uid, []):
                self._selector.unregister(listener)
                listener.close()
            for address in [address for address, owner in self._addresses.items() if owner == uid]:
                del self._addresses[address]

    def run(self) -> None:
        """The thread's loop: accept, and answer each connection in a thread of its own."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._wake_reader.recv(4096)
                    continue
                with contextlib.suppress(OSError):  # closed between select and accept
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    port, answers = key.data
                    threading.Thread(target=_serve, args=(connection, port, answers), daemon=True).start()

    def _free_address(self, uid: str) -> str:
        with self._lock:
            while True:
                self._next = (self._next + 1) % ((LAST_OCTET - FIRST_OCTET + 1) * ADDRESSES_PER_OCTET)
                octet, rest = divmod(self._next, ADDRESSES_PER_OCTET)
                address = f"127.{FIRST_OCTET + octet}.{rest // 250 + 1}.{rest % 250 + 1}"
                if address not in self._addresses:
                    self._addresses[address] = uid
                    return address


def _listen(address: str, ports: Sequence[int]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            listener = socket.socket()
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(LISTEN_BACKLOG)
            listener.setblocking(False)
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return sockets


def _serve(connection: socket.socket, port: int, answers: Answers) -> None:
    connection.setblocking(True)
    with connection, contextlib.suppress(OSError):  # the client went away
        _Handler(connection, port, answers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server_version = "gpumem-lab-pod-life"

    def __init__(self, connection: socket.socket, port: int, answers: Answers) -> None:
        self._port = port
        self._answers = answers
        super().__init__(connection, connection.getpeername(), None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - http.server's names

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > HIGHEST_BODY_BYTES:
            self.close_connection = True
            self.send_error(413, f"a hook's body may have {HIGHEST_BODY_BYTES} bytes")
            return
        body = self.rfile.read(length).decode(errors="replace")
        status, document = self._answers.answer(self._port, self.command, self.path, body)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Requests go to the pod's own log, not to this process's."""
