"""`ports.cluster.Cluster` on the Kubernetes API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from helpers.adapters.kubernetes_.connection import APPLY_PATCH, MERGE_PATCH, Connection
from helpers.adapters.kubernetes_.discovery import Discovery
from helpers.adapters.kubernetes_.refusals import Gone
from helpers.adapters.kubernetes_.watching import Watch
from helpers.domain.errors import NotFound
from helpers.ports.cluster import Manifest, ObjectRef, WatchEvent
from helpers.ports.log import Log

PAGE_OBJECTS = 500

# Under its own name: inside the class, `list` is the method.
Objects = list[dict[str, Any]]


class KubernetesCluster:
    """Reads and writes of one API server; make it with `connect`."""

    def __init__(self, connection: Connection, *, log: Log | None = None) -> None:
        self._connection = connection
        self._discovery = Discovery(connection)
        self._log = log

    @property
    def address(self) -> str:
        """The API server's URL, for messages."""
        return self._connection.address

    def server_version(self) -> str:
        """`major.minor` of the API server."""
        answer = self._connection.request("GET", "/version", subject="read the version")
        # Some distributions append to the minor version: `36+`.
        return f"{answer['major']}.{re.sub(r'[^0-9].*', '', str(answer['minor']))}"

    def get(self, ref: ObjectRef) -> Manifest | None:
        """The object, or None where it does not exist."""
        path = self._discovery.path(ref)
        try:
            return self._connection.request("GET", path, subject=f"get {ref}")
        except NotFound:
            return None

    def list(self, ref: ObjectRef, *, label_selector: str = "", field_selector: str = "") -> list[dict[str, Any]]:
        """Objects of ref's kind, in its namespace or (empty) in all."""
        return self._list(ref, label_selector, field_selector)[0]

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply: a patch that names the whole wish of `field_manager`, and nothing else."""
        ref = ref_of(manifest)
        query = _write_query(field_manager, dry_run=dry_run) | {"force": "true" if force else "false"}
        return self._connection.request(
            "PATCH",
            self._discovery.path(ref, subresource),
            subject=_subject("apply", ref, subresource),
            query=query,
            body=manifest,
            content_type=APPLY_PATCH,
        )

    def merge_patch(
        self, ref: ObjectRef, patch: Manifest, *, field_manager: str, subresource: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        """JSON merge patch (RFC 7386): null removes a key."""
        return self._connection.request(
            "PATCH",
            self._discovery.path(ref, subresource),
            subject=_subject("patch", ref, subresource),
            query=_write_query(field_manager, dry_run=dry_run),
            body=patch,
            content_type=MERGE_PATCH,
        )

    def create(self, manifest: Manifest, *, field_manager: str, dry_run: bool = False) -> dict[str, Any]:
        """Create; Conflict where it exists."""
        ref = ref_of(manifest)
        collection = ObjectRef(ref.api_version, ref.kind, "", ref.namespace)
        return self._connection.request(
            "POST",
            self._discovery.path(collection),
            subject=f"create {ref}",
            query=_write_query(field_manager, dry_run=dry_run),
            body=manifest,
        )

    def watch(self, ref: ObjectRef, *, label_selector: str = "", stop: Callable[[], bool]) -> Iterator[WatchEvent]:
        """Changes of ref's kind, beginning with ADDED for what is there."""
        return Watch(
            self._connection,
            subject=f"watch {ref}",
            path=lambda: self._discovery.path(ref),
            label_selector=label_selector,
            list_all=lambda: self._list(ref, label_selector, ""),
            stop=stop,
            log=self._log,
        ).events()

    def _list(self, ref: ObjectRef, label_selector: str, field_selector: str) -> tuple[Objects, str]:
        collection = ObjectRef(ref.api_version, ref.kind, "", ref.namespace)
        query = {"limit": str(PAGE_OBJECTS)}
        query |= {"labelSelector": label_selector} if label_selector else {}
        query |= {"fieldSelector": field_selector} if field_selector else {}
        try:
            return self._pages(collection, query)
        except Gone:
            # The later pages' snapshot was compacted away: once more, all in one answer.
            return self._pages(collection, query | {"limit": "0"})

    def _pages(self, ref: ObjectRef, query: dict[str, str]) -> tuple[Objects, str]:
        path = self._discovery.path(ref)
        items: Objects = []
        page: dict[str, Any] = {}
        while not page or page["metadata"].get("continue"):
            more = {"continue": page["metadata"]["continue"]} if page else {}
            page = self._connection.request("GET", path, subject=f"list {ref}", query=query | more)
            # Lists carry the type once, for all; whoever gets one item needs it there.
            items += [{"apiVersion": ref.api_version, "kind": ref.kind, **item} for item in page.get("items") or []]
        return items, str(page["metadata"].get("resourceVersion", ""))


def ref_of(manifest: Manifest) -> ObjectRef:
    """Which object a manifest is about."""
    metadata = manifest["metadata"]
    return ObjectRef(manifest["apiVersion"], manifest["kind"], metadata.get("name", ""), metadata.get("namespace", ""))


def _subject(verb: str, ref: ObjectRef, subresource: str) -> str:
    return f"{verb} {ref} ({subresource})" if subresource else f"{verb} {ref}"


def _write_query(field_manager: str, *, dry_run: bool) -> dict[str, str]:
    # Strict: a field that the server does not know would be dropped in silence otherwise.
    query = {"fieldManager": field_manager, "fieldValidation": "Strict"}
    return query | {"dryRun": "All"} if dry_run else query
