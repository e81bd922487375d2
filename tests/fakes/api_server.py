"""A scripted HTTP server in the place of an API server: for answers that a healthy one never gives."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.plain_kubeconfig import write_kubeconfig

CORE = {
    "resources": [
        {"name": "nodes", "kind": "Node", "namespaced": False},
        {"name": "nodes/status", "kind": "Node", "namespaced": False},
        {"name": "pods", "kind": "Pod", "namespaced": True},
    ]
}

# What to answer: a status and a body, or a function that writes the body piece by piece.
Answer = tuple[int, Any] | Callable[[Callable[[Any], None]], None]


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any


@dataclass
class ScriptedApi:
    """`answers[path]` are given in turn, the last one for ever; `asked` is what came."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))

    def of(self, path: str) -> list[Asked]:
        """The requests to `path`."""
        return [each for each in self.asked if each.path == path]

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig of this server."""
        return write_kubeconfig(folder, f"http://127.0.0.1:{self.port}")


@contextmanager
def scripted_api() -> Iterator[ScriptedApi]:
    """Runs one on loopback."""
    script = ScriptedApi()
    script.answers["/api/v1"].append((200, CORE))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def _answer(self) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            body = json.loads(content) if content else None
            script.asked.append(Asked(self.command, url.path, query, self.headers.get("Content-Type", ""), body))
            answers = script.answers[url.path]
            answer = answers.popleft() if len(answers) > 1 else answers[0]
            if callable(answer):
                self._stream(answer)
            else:
                self._whole(*answer)

        do_GET = do_PATCH = do_POST = _answer  # noqa: N815

        def _whole(self, status: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, answer: Callable[[Callable[[Any], None]], None]) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()

            def send(event: Any) -> None:
                self.wfile.write(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")
                self.wfile.flush()

            answer(send)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
