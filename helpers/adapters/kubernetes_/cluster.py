"""`ports.cluster.Cluster` on the Kubernetes API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from helpers.adapters.kubernetes_.connection import APPLY_PATCH, MERGE_PATCH, Connection
from helpers.adapters.kubernetes_.discovery import Discovery
from helpers.adapters.kubernetes_.refusals import Gone, TooManyRequests
from helpers.adapters.kubernetes_.watching import Watch
from helpers.domain.errors import Conflict, NotFound
from helpers.ports.cluster import Manifest, ObjectRef, Removal, WatchEvent
from helpers.ports.log import Log

PAGE_OBJECTS = 500
LONGEST_LOG_BYTES = 4 * 1024 * 1024

# Under its own name: inside the class, `list` is the method.
Objects = list[dict[str, Any]]
Trim = Callable[[Manifest], dict[str, Any]]


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

    def evict(self, ref: ObjectRef, *, uid: str, dry_run: bool = False) -> Removal:
        """The Eviction API, with the uid as precondition."""
        metadata = {"name": ref.name, "namespace": ref.namespace}
        options = _delete_options(uid, dry_run=dry_run)
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}
        return self._remove("POST", ref, "eviction", body)

    def delete(self, ref: ObjectRef, *, uid: str, dry_run: bool = False, cascade: bool = False) -> Removal:
        """A deletion with the uid as precondition."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **_delete_options(uid, dry_run=dry_run)}
        if cascade:
            body["propagationPolicy"] = "Background"
        return self._remove("DELETE", ref, "", body)

    def pod_log(self, pod: ObjectRef, *, container: str, tail_lines: int) -> str:
        """`ports.pod_logs.PodLogs`: the end of a container's output."""
        query = {"container": container, "tailLines": str(tail_lines), "limitBytes": str(LONGEST_LOG_BYTES)}
        path = self._discovery.path(pod, "log")
        return self._connection.text(path, subject=f"read the log of {pod}", query=query)

    def watch(
        self,
        ref: ObjectRef,
        *,
        label_selector: str = "",
        field_selector: str = "",
        trim: Trim | None = None,
        stop: Callable[[], bool],
    ) -> Iterator[WatchEvent]:
        """Changes of ref's kind, beginning with ADDED for what is there."""
        return Watch(
            self._connection,
            subject=f"watch {ref}",
            path=lambda: self._discovery.path(ref),
            selectors=_selectors(label_selector, field_selector),
            list_all=lambda: self._list(ref, label_selector, field_selector, trim),
            trim=trim,
            stop=stop,
            log=self._log,
        ).events()

    def _remove(self, method: str, ref: ObjectRef, subresource: str, body: Manifest) -> Removal:
        subject = f"{'evict' if subresource else 'delete'} {ref}"
        try:
            self._connection.request(method, self._discovery.path(ref, subresource), subject=subject, body=body)
        except (NotFound, Conflict) as error:
            # 409 is the precondition: another pod has the name by now.
            return Removal("gone", str(error))
        except TooManyRequests as error:
            if not error.disruption_budget:
                raise
            return Removal("blocked", str(error), error.retry_after_seconds)
        return Removal("accepted")

    def _list(
        self, ref: ObjectRef, label_selector: str, field_selector: str, trim: Trim | None = None
    ) -> tuple[Objects, str]:
        collection = ObjectRef(ref.api_version, ref.kind, "", ref.namespace)
        query = {"limit": str(PAGE_OBJECTS)} | _selectors(label_selector, field_selector)
        try:
            return self._pages(collection, query, trim)
        except Gone:
            # The later pages' snapshot was compacted away: once more, all in one answer.
            return self._pages(collection, query | {"limit": "0"}, trim)

    def _pages(self, ref: ObjectRef, query: dict[str, str], trim: Trim | None) -> tuple[Objects, str]:
        path = self._discovery.path(ref)
        items: Objects = []
        page: dict[str, Any] = {}
        while not page or page["metadata"].get("continue"):
            more = {"continue": page["metadata"]["continue"]} if page else {}
            page = self._connection.request("GET", path, subject=f"list {ref}", query=query | more)
            # Lists carry the type once, for all; whoever gets one item needs it there.
            whole = ({"apiVersion": ref.api_version, "kind": ref.kind, **item} for item in page.get("items") or [])
            items += [trim(item) if trim else item for item in whole]
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


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    query = {"labelSelector": label_selector} if label_selector else {}
    return query | ({"fieldSelector": field_selector} if field_selector else {})


def _delete_options(uid: str, *, dry_run: bool) -> dict[str, Any]:
    return {"preconditions": {"uid": uid}} | ({"dryRun": ["All"]} if dry_run else {})
