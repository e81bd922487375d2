"""The part of a kubelet's API that ``kubectl logs`` needs, over TLS, for the API server only."""

from __future__ import annotations

import contextlib
import ssl
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lab.pod_life.live import LivePod
from lab.pod_life.pods import PodLife

FOLLOW_POLL_SECONDS = 0.1
KNOWN_OPTIONS = {"follow", "limitBytes", "tailLines", "sinceSeconds", "timestamps"}
LOG_PATH_PARTS = 4  # containerLogs, namespace, pod, container


class KubeletServer(ThreadingHTTPServer):
    """Answers ``/healthz`` and ``/containerLogs/...`` to clients that the lab's CA has signed."""

    daemon_threads = True

    def __init__(self, port: int, pki: Path, life: PodLife) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.life = life
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
        context.load_verify_locations(pki / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        # The handshake happens in the connection's thread: a silent client must not stop the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off or fails the handshake is its own problem."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 60.0

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if url.path == "/healthz":
            self._answer(200, "ok")
        elif parts[0] == "containerLogs" and len(parts) == LOG_PATH_PARTS:
            self._logs(parts[1], parts[2], {key: values[-1] for key, values in parse_qs(url.query).items()})
        else:
            self._refuse_unknown()

    def do_POST(self) -> None:
        self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        text = "pod life is a stand-in: its containers are simulated, so there are logs but no exec or attach"
        self._answer(501, text)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{text}\n".encode())

    def _logs(self, namespace: str, name: str, options: dict[str, str]) -> None:
        server = self.server
        assert isinstance(server, KubeletServer)  # noqa: S101 - the only server that uses this handler
        live = server.life.find(namespace, name)
        unknown = sorted(key for key, value in options.items() if key not in KNOWN_OPTIONS and value != "false")
        if live is None:
            self._answer(404, f"pod life carries no pod {namespace}/{name}")
        elif unknown:
            self._answer(400, f"pod life does not know the log option {unknown[0]}; known: {sorted(KNOWN_OPTIONS)}")
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader went away
                self._write_lines(live, options)

    def _write_lines(self, live: LivePod, options: dict[str, str]) -> None:
        shown = len(live.lines)
        lines = live.lines[:shown]
        if seconds := options.get("sinceSeconds"):
            earliest = datetime.now(UTC) - timedelta(seconds=int(seconds))
            lines = [line for line in lines if line[0] >= earliest]
        if tail := options.get("tailLines"):
            lines = lines[max(len(lines) - int(tail), 0) :]
        self._write(lines, options)
        while options.get("follow") == "true" and not live.ended:
            time.sleep(FOLLOW_POLL_SECONDS)
            new = live.lines[shown:]
            shown += len(new)
            self._write(new, options)

    def _write(self, lines: list[tuple[datetime, str]], options: dict[str, str]) -> None:
        stamped = options.get("timestamps") == "true"
        text = "".join(f"{at.isoformat()} {line}\n" if stamped else f"{line}\n" for at, line in lines).encode()
        self.wfile.write(text[: int(options.get("limitBytes", len(text)))])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """The API server's requests are not worth a line each."""
