"""Requests to one API server: JSON in and out, bounded in time, never retried behind our back.

The client library gives the configuration (TLS, proxy, tokens and their renewal) and its connection
pool; its generated methods and model classes are left aside, because they drop fields that they do
not know and cannot send a server-side apply of a partial object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client

from helpers.adapters.kubernetes_.refusals import refusal, unreachable

CONNECT_BOUND_SECONDS = 3.0
READ_BOUND_SECONDS = 10.0
# urllib3 alone would try an unreachable address four times. One more read covers a kept connection
# that the server closed just then; writes are never sent twice (`allowed_methods`).
_RETRIES = urllib3.Retry(total=1, connect=0, read=1, redirect=0, status=0, other=0, allowed_methods={"GET"})
_REFUSED_FROM = 400

JSON = "application/json"
APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"


class Connection:
    """One API server; safe to share between threads."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._settings = api_client.configuration
        self._pool = api_client.rest_client.pool_manager

    @property
    def address(self) -> str:
        """The API server's URL, for messages."""
        return str(self._settings.host)

    def request(
        self,
        method: str,
        path: str,
        *,
        subject: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        """One request; the answer's JSON. `subject` (`get Node t4-node`) is how messages name it.

        Raises:
            ClusterError: refused, or no answer within the bounds above.
        """
        content = None if body is None else json.dumps(body).encode()
        response = self._send(method, path, query, content, content_type, subject, READ_BOUND_SECONDS, preload=True)
        loaded: dict[str, Any] = json.loads(response.data)
        return loaded

    def text(self, path: str, *, subject: str, query: Mapping[str, str]) -> str:
        """The answer of a read that is no JSON.

        Raises:
            ClusterError: refused, or no answer within the bounds above.
        """
        response = self._send("GET", path, query, None, JSON, subject, READ_BOUND_SECONDS, preload=True)
        return bytes(response.data).decode(errors="replace")

    def stream(
        self, path: str, *, subject: str, query: Mapping[str, str], silence_bound_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """An open answer to read line by line; whoever asked closes it.

        Raises:
            ClusterError: refused, or no answer.
        """
        return self._send("GET", path, query, None, JSON, subject, silence_bound_seconds, preload=False)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        content: bytes | None,
        content_type: str,
        subject: str,
        read_bound_seconds: float,
        *,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self.address}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            response: urllib3.BaseHTTPResponse = self._pool.request(
                method,
                url,
                body=content,
                headers=self._headers(content_type),
                timeout=urllib3.Timeout(connect=CONNECT_BOUND_SECONDS, read=read_bound_seconds),
                retries=_RETRIES,
                preload_content=preload,
            )
            if response.status >= _REFUSED_FROM:
                raise refusal(response.status, response.data, subject=subject, address=self.address)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(error, subject=subject, address=self.address) from error
        return response

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "gpumem"}
        # Asked each time: the library renews tokens here (a pod's token is replaced every hour).
        for setting in self._settings.auth_settings().values():
            if setting["in"] == "header":
                headers[setting["key"]] = setting["value"]
        return headers
