"""The Kubernetes API as services see it: objects are plain mappings, errors are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class ObjectRef:
    """One object, or (with an empty name) a collection. `namespace` is empty for cluster-scoped kinds."""

    api_version: str
    kind: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """`Deployment immich/immich-server`, as messages name it."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}".strip()


@dataclass(frozen=True)
class WatchEvent:
    """One change: `object` is the whole new (for DELETED: last) object."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Manifest


@dataclass(frozen=True)
class Removal:
    """What the API said to an eviction or a deletion of one pod.

    accepted: the pod terminates, or (dry run) would. blocked: a PodDisruptionBudget says not now.
    gone: there is no such pod any more; its name may be another one's.
    """

    answer: Literal["accepted", "blocked", "gone"]
    text: str = ""
    retry_after_seconds: float | None = None


class Objects(Protocol):
    """Any object of the Kubernetes API: read, watched, applied whole, deleted. Raises as `Cluster` does."""

    def get(self, ref: ObjectRef) -> Manifest | None:
        """The object, or None where it does not exist."""
        ...

    def list(self, ref: ObjectRef, *, label_selector: str = "", field_selector: str = "") -> list[dict[str, Any]]:
        """Objects of ref's kind, in its namespace or (empty) in all; `apiVersion` and `kind` filled in."""
        ...

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply; the manager owns exactly the fields in `manifest`. Conflict names the owner."""
        ...

    def delete(self, ref: ObjectRef, *, uid: str, dry_run: bool = False, cascade: bool = False) -> Removal:
        """Deletes the object with that uid; a pod with its own grace period, whatever a PodDisruptionBudget says.

        cascade: what it owns goes with it, in the background. For a batch/v1 Job the API's own default
        is to leave its pods running.
        """
        ...

    def watch(
        self,
        ref: ObjectRef,
        *,
        label_selector: str = "",
        field_selector: str = "",
        trim: Callable[[Manifest], dict[str, Any]] | None = None,
        stop: Callable[[], bool],
    ) -> Iterator[WatchEvent]:
        """Changes of ref's kind for ever, beginning with ADDED for what is there.

        Reconnects, and lists again after 410 Gone; ends when `stop()` is true (asked at least every
        few seconds). Raises only what a retry cannot mend (Forbidden). `trim` is applied to each
        object before anything is kept or given out, and must leave name, namespace and uid in it:
        a watch remembers every object, and whole pods of a large cluster take hundreds of MiB.
        """
        ...


class Cluster(Objects, Protocol):
    """Reads and writes of the Kubernetes API.

    Every method raises `helpers.domain.errors.ClusterError` or one of its kinds (NotFound,
    Conflict, Forbidden); the message names verb and object.
    """

    def server_version(self) -> str:
        """`major.minor` of the API server."""
        ...

    def merge_patch(
        self, ref: ObjectRef, patch: Manifest, *, field_manager: str, subresource: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        """JSON merge patch. `metadata.resourceVersion` in `patch` makes it fail with Conflict on a stale read."""
        ...

    def create(self, manifest: Manifest, *, field_manager: str, dry_run: bool = False) -> dict[str, Any]:
        """Create; Conflict where it exists."""
        ...

    def evict(self, ref: ObjectRef, *, uid: str, dry_run: bool = False) -> Removal:
        """The Eviction API: respects PodDisruptionBudgets, and only the pod with that uid is meant."""
        ...
