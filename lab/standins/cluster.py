"""The few calls that the kubectl stand-in makes: discover a kind, get, server-side apply, delete."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from lab.standins.connection import Connection
from lab.standins.failure import Failure
from lab.standins.manifest import Identity, JsonObject

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 60.0
PASSING_STATUSES = frozenset({404, 408, 429, 500, 502, 503, 504})
"""Answers that a second try may change: a namespace or CRD made by a neighbour a moment later, a busy server."""


class KindNotServed(Failure):
    """The API server knows no such apiVersion and kind (its CRD is not there, or not yet)."""


@dataclass(frozen=True)
class Place:
    """Where objects of one kind live."""

    collection: str
    """Path of the collection, with the namespace."""
    namespaced: bool


class Cluster:
    """One API server. Safe for the several operations that Terraform runs at a time; connects at the first call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._client: Any = None
        self._kinds: dict[str, list[JsonObject]] = {}

    def place(self, who: Identity) -> Place:
        """Where the object lives; a namespaced one without a namespace lives in ``default``.

        Raises:
            KindNotServed: no such kind on this server.
            Failure: the server cannot be reached or refuses.
        """
        root = f"/api/{who.api_version}" if "/" not in who.api_version else f"/apis/{who.api_version}"
        kind = self._kind(root, who)
        if kind is None:
            raise KindNotServed(
                f"{who} has a kind that the cluster does not serve",
                f"{who.api_version} {who.kind} is not served; apply its CRD first, or correct apiVersion and kind",
                passing=True,
            )
        namespaced = bool(kind.get("namespaced"))
        namespace = f"/namespaces/{quote(who.namespace or 'default')}" if namespaced else ""
        return Place(f"{root}{namespace}/{kind['name']}", namespaced)

    def _kind(self, root: str, who: Identity) -> JsonObject | None:
        """The kind's discovery entry; asked again where it was not there before, for CRDs come while we run."""
        known = _of_kind(who.kind, self._kinds.get(root, []))
        if known is None:
            status, answer = self._call("GET", root, f"discovery for {who}", accepted=(404,))
            self._kinds[root] = [] if status == 404 else answer.get("resources", [])
            known = _of_kind(who.kind, self._kinds[root])
        return known

    def get(self, who: Identity) -> JsonObject | None:
        """The live object, or None where there is none."""
        path = f"{self.place(who).collection}/{quote(who.name)}"
        status, answer = self._call("GET", path, f"get of {who}", accepted=(404, 410))
        return None if status in (404, 410) else answer

    def apply(self, who: Identity, manifest: JsonObject, field_manager: str, *, force: bool) -> JsonObject:
        """Server-side apply; returns the live object.

        Raises:
            Failure: a conflict (the server's words name the other manager and the fields), an invalid object, or
                a server that cannot be reached.
        """
        query = urlencode({"fieldManager": field_manager, "force": "true" if force else "false"})
        path = f"{self.place(who).collection}/{quote(who.name)}?{query}"
        return self._call("PATCH", path, f"apply of {who}", body=manifest)[1]

    def delete(self, who: Identity, *, foreground: bool) -> bool:
        """Asks for deletion; False where the object is already gone."""
        path = f"{self.place(who).collection}/{quote(who.name)}"
        options = {"propagationPolicy": "Foreground" if foreground else "Background"}
        return self._call("DELETE", path, f"delete of {who}", body=options, accepted=(404, 410))[0] < 400

    def _call(
        self, method: str, path: str, what: str, *, body: JsonObject | None = None, accepted: tuple[int, ...] = ()
    ) -> tuple[int, JsonObject]:
        """One request: ``(status, decoded answer)``; a status of 400 and more that is not accepted raises."""
        # Terraform starts a provider three times a command, mostly without asking it for anything of a cluster.
        import urllib3  # noqa: PLC0415

        client = self._connected()
        headers = {"Accept": "application/json", "User-Agent": "gpumem-lab-standin"}
        kind_of_body = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        headers.update({"Content-Type": kind_of_body} if body is not None else {})
        headers.update(
            {auth["key"]: auth["value"] for auth in client.configuration.auth_settings().values() if auth["value"]}
        )
        try:
            response = client.rest_client.pool_manager.request(
                method,
                client.configuration.host + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
                retries=False,
            )
            answer = json.loads(response.data) if response.data else {}
        except (urllib3.exceptions.HTTPError, ValueError) as exc:
            host = client.configuration.host
            raise Failure(f"{what} failed", f"no answer from {host}: {exc}", passing=True) from exc
        if response.status >= 400 and response.status not in accepted:
            raise _refused(what, response.status, answer)
        return response.status, answer

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connection.client()
                if not self._client.configuration.verify_ssl:
                    import urllib3  # noqa: PLC0415

                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            return self._client


def _of_kind(kind: str, served: list[JsonObject]) -> JsonObject | None:
    """The discovery entry of the kind itself, not of a subresource such as ``deployments/scale``."""
    return next((entry for entry in served if entry.get("kind") == kind and "/" not in entry["name"]), None)


def _refused(what: str, status: int, answer: object) -> Failure:
    """The server's refusal with its own words; a conflict also says what can be done about it."""
    message = answer.get("message", "no message") if isinstance(answer, dict) else str(answer)
    repair = ""
    if status == 409 and "conflict" in str(message):
        repair = (
            "\nAnother field manager owns these fields. Leave them out of the manifest, write the value that they "
            "have, or take them with force_conflicts = true."
        )
    return Failure(f"{what} failed: {message}", f"HTTP {status}: {message}{repair}", passing=status in PASSING_STATUSES)
