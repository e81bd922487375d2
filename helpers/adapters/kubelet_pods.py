"""The pods of one node over plain HTTPS: from its kubelet, or from the API server.

Not through the kubernetes package: importing it costs more memory than all the rest of the exporter.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from helpers.domain.errors import DependencyError, Forbidden, InputError

_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_SHOWN_BODY_CHARACTERS = 200


@dataclass(frozen=True)
class HttpAccess:
    """How to reach a server. The token file is read anew at each request (kubelets rotate it), and only for https.

    `insecure` accepts any certificate: for kubelets that sign their own. The token could then be read
    by whoever poses as the kubelet, so the default is off.
    """

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    insecure: bool = False
    timeout_seconds: float = 5.0

    def get(self, path: str) -> bytes:
        """The body of a GET.

        Raises:
            DependencyError: No answer, or not 200. Forbidden where the credentials do not suffice.
        """
        place = f"{self.url}{path}"
        try:
            connection = self._connection()
            try:
                connection.request("GET", path, headers=self._headers())
                answer = connection.getresponse()
                body = answer.read(_LARGEST_ANSWER_BYTES + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise DependencyError(f"GET {place}: {error}") from error
        if len(body) > _LARGEST_ANSWER_BYTES:
            raise DependencyError(f"GET {place}: the answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
        if answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise Forbidden(f"GET {place}: {answer.status} {_shown(body)}")
        if answer.status != http.client.OK:
            raise DependencyError(f"GET {place}: {answer.status} {_shown(body)}")
        return body

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"url {self.url!r} must be http://HOST[:PORT] or https://HOST[:PORT]")
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_seconds)
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file is not None else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout_seconds, context=context)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json, text/plain"}
        # Never in clear text: the kubelet's read-only port asks for none.
        if self.token_file is not None and self.url.startswith("https://"):
            headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
        return headers


class KubeletPods:
    """`ports.telemetry.PodList` from the node's own kubelet: no load on the API server.

    Needs `get` on `nodes/pods` (Kubernetes 1.33 and newer) or `nodes/proxy`, or the read-only port.
    """

    def __init__(self, access: HttpAccess) -> None:
        self._access = access

    def pods(self) -> list[dict[str, Any]]:
        """Every pod that the kubelet runs, static ones included."""
        return _items(self._access.get("/pods"), self._access.url)


class ApiPods:
    """`ports.telemetry.PodList` from the API server. Needs `list` on `pods`."""

    def __init__(self, access: HttpAccess, node_name: str) -> None:
        self._access = access
        # resourceVersion=0: from the server's cache, as every kubelet's own list is.
        self._path = f"/api/v1/pods?resourceVersion=0&fieldSelector={quote(f'spec.nodeName={node_name}')}"

    def pods(self) -> list[dict[str, Any]]:
        """Every pod that is bound to the node."""
        return _items(self._access.get(self._path), self._access.url)


def _items(body: bytes, url: str) -> list[dict[str, Any]]:
    try:
        document = json.loads(body)
        items = document["items"]
    except (ValueError, TypeError, KeyError) as error:
        raise DependencyError(f"{url} answered something that is no list of pods: {_shown(body)}") from error
    if not isinstance(items, list):
        if items is None:  # how Go writes an empty list
            return []
        raise DependencyError(f"{url} answered something that is no list of pods: {_shown(body)}")
    return items


def _shown(body: bytes) -> str:
    return body[:_SHOWN_BODY_CHARACTERS].decode(errors="replace").strip()
