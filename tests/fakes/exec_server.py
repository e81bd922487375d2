"""An API server's side of `pods/exec`: a real websocket whose frames the test writes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
_BINARY, _CLOSE = 0x82, 0x88
OUT, ERR, STATUS = 1, 2, 3

# Writes one frame: its channel, and what is in it.
Send = Callable[[int, bytes], None]


def ended(exit_status: int) -> bytes:
    """The Status object with which a kubelet's answer ends."""
    if exit_status == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(exit_status)}]
    return json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}).encode()


@dataclass
class ExecServer:
    """`talk` writes the frames, after which the connection is closed; `refuse` is a status and a body instead."""

    talk: Callable[[Send], None] = lambda send: None
    refuse: tuple[int, Any] | None = None
    port: int = 0
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)


@contextmanager
def exec_server() -> Iterator[ExecServer]:
    """Runs one on loopback."""
    script = ExecServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            script.asked.append((url.path, parse_qs(url.query)))
            self.close_connection = True
            if script.refuse is not None:
                content = json.dumps(script.refuse[1]).encode()
                self.send_response(script.refuse[0])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            key = hashlib.sha1(f"{self.headers['Sec-WebSocket-Key']}{_MAGIC}".encode())  # noqa: S324 - the protocol's
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(key.digest()).decode())
            self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that gave up
                script.talk(lambda channel, content: self._frame(_BINARY, bytes([channel]) + content))
                self._frame(_CLOSE, struct.pack("!H", 1000))

        def _frame(self, opcode: int, content: bytes) -> None:
            length = len(content)
            head = struct.pack("!BB", opcode, length) if length < 126 else struct.pack("!BBH", opcode, 126, length)
            self.wfile.write(head + content)
            self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
