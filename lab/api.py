"""A small JSON client for the lab's own API server.

The lab needs to be up in seconds and to carry thousands of pods in one process; the generated
Kubernetes client takes longer to import than the cluster takes to start. Helpers use that client;
this one is only for the lab's own work.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lab.errors import LabError

REQUEST_BOUND_SECONDS = 30.0
JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
HTTP_NOT_FOUND = 404
HTTP_CONFLICT = 409
_STALE = (http.client.RemoteDisconnected, http.client.CannotSendRequest, ConnectionResetError, BrokenPipeError)

Object = dict[str, Any]


class ApiError(LabError):
    """The API server answered with an error status, or (status 0) did not answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Credentials:
    """Where the API server is and who asks."""

    port: int
    ca: Path
    cert: Path
    key: Path


class Api:
    """Requests to one API server; safe to share between threads, each has its own connection."""

    def __init__(self, credentials: Credentials) -> None:
        self._port = credentials.port
        self._context = ssl.create_default_context(cafile=str(credentials.ca))
        self._context.load_cert_chain(credentials.cert, credentials.key)
        self._local = threading.local()

    def get(self, path: str, **query: str) -> Object:
        """GET of an object or list."""
        return self._json("GET", path, query)

    def text(self, path: str) -> str:
        """GET of a plain answer, such as ``/readyz``."""
        return self._send("GET", path, {}, None, JSON).decode()

    def post(self, path: str, body: Object) -> Object:
        """Creates an object."""
        return self._json("POST", path, {}, body)

    def patch(self, path: str, body: Object, content_type: str = MERGE_PATCH, **query: str) -> Object:
        """Patches an object; a merge patch unless said otherwise."""
        return self._json("PATCH", path, query, body, content_type)

    def delete(self, path: str, options: Object | None = None) -> bool:
        """Deletes an object; False where there was none (or, with preconditions, another one)."""
        try:
            self._json("DELETE", path, {}, options or {})
        except ApiError as error:
            if error.status in {HTTP_NOT_FOUND, HTTP_CONFLICT}:
                return False
            raise
        return True

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == HTTP_NOT_FOUND:
                return False
            raise
        return True

    def watch(self, path: str, version: str, query: Mapping[str, str], bound_seconds: int = 240) -> Iterator[Object]:
        """Events after resource version `version`; ends when the server ends the watch.

        Raises:
            ApiError: The version is too old (410), or the connection broke (0).
        """
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(bound_seconds)}
        asked |= {"allowWatchBookmarks": "true", **query}
        connection = self._connect(bound_seconds + REQUEST_BOUND_SECONDS)
        try:
            connection.request("GET", f"{path}?{urlencode(asked)}")
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise _refusal("WATCH", path, answer.status, answer.read())
            for line in answer:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"watch of {path} broke: {error!r}") from error
        finally:
            connection.close()

    def _connect(self, bound_seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=bound_seconds)

    def _json(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None = None, content_type: str = JSON
    ) -> Object:
        content = self._send(method, path, query, body, content_type)
        loaded: Object = json.loads(content)
        return loaded

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Object | None, content_type: str) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type, "Accept": JSON}
        for last_try in (False, True):
            connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect(REQUEST_BOUND_SECONDS)
            try:
                connection.request(method, target, content, headers)
                answer = connection.getresponse()
                received = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._drop(connection)
                # A kept connection that the server had closed meanwhile: the request never arrived.
                if isinstance(error, _STALE) and not last_try:
                    continue
                raise ApiError(0, f"{method} {path}: the lab's API server does not answer: {error!r}") from error
            if answer.status >= http.client.BAD_REQUEST:
                raise _refusal(method, path, answer.status, received)
            return received
        raise AssertionError("unreachable: the second try returns or raises")

    def _drop(self, connection: http.client.HTTPSConnection) -> None:
        with contextlib.suppress(OSError):
            connection.close()
        self._local.connection = None


def _refusal(method: str, path: str, status: int, content: bytes) -> ApiError:
    text = content.decode(errors="replace").strip()
    with contextlib.suppress(json.JSONDecodeError, AttributeError):
        text = json.loads(content).get("message", text)
    return ApiError(status, f"{method} {path}: {status}: {text}")
