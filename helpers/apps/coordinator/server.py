"""The coordinator over HTTP: what applications and their users may know.

`GET /v1/status` answers 200 while all cards are there, else 503 with the reference's own words and
Retry-After; `GET /v1/status/<tenant>` the same for one; `GET /v1/lanes` every lane, from the leader (503 elsewhere).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

import prometheus_client as prometheus

from helpers.adapters.metrics import ListenAddress, bound, serving
from helpers.domain.lanes.board import status
from helpers.domain.lanes.decision import LaneVerdict
from helpers.domain.lanes.settings import CoordinatorSettings

_REQUEST_SECONDS = 10.0
Answer = tuple[HTTPStatus, str, bytes, dict[str, str]]


class Answers:
    """What is answered to a GET; pure but for what it reads through the three functions."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        registry: prometheus.CollectorRegistry,
        *,
        away: Callable[[], dict[str, str]],
        verdicts: Callable[[], tuple[LaneVerdict, ...]],
        healthy: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._away = away
        self._verdicts = verdicts
        self._healthy = healthy

    def to(self, path: str) -> Answer:
        """Status, content type, body and further headers."""
        if path == "/metrics":
            return HTTPStatus.OK, prometheus.CONTENT_TYPE_LATEST, prometheus.generate_latest(self._registry), {}
        if path == "/healthz":
            healthy = self._healthy()
            code = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return code, "text/plain", b"ok\n" if healthy else b"a loop hangs or has ended: see the log\n", {}
        if path == "/v1/lanes":
            return self._lanes()
        if path == "/v1/status" or path.startswith("/v1/status/"):
            return self._status(path.removeprefix("/v1/status").strip("/"))
        return HTTPStatus.NOT_FOUND, "text/plain", b"there are /v1/status, /v1/lanes, /metrics and /healthz\n", {}

    def _lanes(self) -> Answer:
        verdicts = self._verdicts()
        if not verdicts:  # no lane is not what is the case
            text = "this process does not lead, and only the leader sees the lanes: ask again, or the other one"
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": text}, {"Retry-After": "1"})
        return _json(HTTPStatus.OK, {"lanes": [_shown(verdict) for verdict in verdicts]})

    def _status(self, tenant: str) -> Answer:
        away = self._away()
        document = status(self._settings, away)
        if tenant:
            if tenant not in document["tenants"]:
                return _json(HTTPStatus.NOT_FOUND, {"error": f"no lane has the tenant {tenant!r}"})
            document = status(self._settings, {tenant: away[tenant]} if tenant in away else {})
        if document["available"]:
            return _json(HTTPStatus.OK, document)
        retry = {"Retry-After": str(self._settings.retry_after_seconds)}
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, document, retry)


def _json(code: HTTPStatus, document: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    return code, "application/json", json.dumps(document).encode() + b"\n", headers or {}


def _shown(verdict: LaneVerdict) -> dict[str, Any]:
    document = asdict(verdict)
    del document["settled_at_seconds"]
    document["change_at"] = verdict.change_at.isoformat() if verdict.change_at else None
    return document


@contextlib.contextmanager
def served(answers: Answers, address: ListenAddress) -> Iterator[int]:
    """Serves on `address`; gives the port.

    Raises:
        InputError: the address cannot be bound.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _REQUEST_SECONDS
        # Head and body are two writes: with Nagle's algorithm the second waits up to 40 ms for an acknowledgement.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            code, kind, body, headers = answers.to(self.path)
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: stderr holds one JSON object a line."""

    with serving(bound(address, Handler, option="--address"), name="http") as port:
        yield port
