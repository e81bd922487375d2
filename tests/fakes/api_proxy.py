"""A loopback proxy in front of an API server that counts requests and answers some of them badly."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.plain_kubeconfig import write_kubeconfig

# What goes wrong with a request: a status, `hang`, or None.
Fault = int | str | None


@dataclass
class ApiProxy:
    """`fault(method, path)` is asked for each request."""

    port: int = 0
    fault: Callable[[str, str], Fault] = lambda method, path: None
    requests: Counter[str] = field(default_factory=Counter)

    def kubeconfig(self, folder: Path) -> Path:
        return write_kubeconfig(folder, f"http://127.0.0.1:{self.port}")


@contextmanager
def api_proxy(server: str, ca: Path, token: str) -> Iterator[ApiProxy]:
    """Runs one; requests go on with the bearer `token`."""
    proxy = ApiProxy()
    context = ssl.create_default_context(cafile=str(ca))
    where = urlsplit(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.requests[f"{self.command} {urlsplit(self.path).path}"] += 1
            fault = proxy.fault(self.command, self.path)
            if fault == "hang":
                time.sleep(30)
                self.close_connection = True
            elif isinstance(fault, int):
                self._refuse(fault)
            else:
                self._forward(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815

        def _refuse(self, status: int) -> None:
            body: dict[str, Any] = {"kind": "Status", "code": status, "message": "the proxy says no"}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _forward(self, content: bytes) -> None:
            upstream = http.client.HTTPSConnection(where.hostname or "", where.port, context=context, timeout=90)
            headers = {
                k: v for k, v in self.headers.items() if k.lower() not in ("host", "authorization", "connection")
            }
            headers["Authorization"] = f"Bearer {token}"
            try:
                upstream.request(self.command, self.path, content or None, headers)
                answer = upstream.getresponse()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                while chunk := answer.read1(65536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except (OSError, http.client.HTTPException):
                self.close_connection = True
            finally:
                upstream.close()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    listener.block_on_close = False
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]
    proxy.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
