"""What the node agent works with, as values that a test sets: an API server of three kinds, files, and metrics."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.prepared import PreparedClaim
from helpers.domain.dra.slice_document import API_VERSION
from helpers.domain.errors import ClusterError
from helpers.ports.cluster import Manifest, ObjectRef, Removal, WatchEvent

NODE = "gpu-node"
UID = "0b6d9c1e-5a9f-4a53-9d3e-6b1f0c1d2e3f"


def node(uid: str = "node-uid-1", boot_id: str = "boot-1", name: str = NODE) -> dict[str, Any]:
    """A Node object."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": uid},
        "status": {"nodeInfo": {"bootID": boot_id}},
    }


def claim(
    *devices: str, memory: str | None = "16000Mi", uid: str = UID, name: str = "chat", pool: str = NODE, **more: Any
) -> dict[str, Any]:
    """An allocated claim in namespace `tenants`, each of `devices` for its one request."""
    consumed = {} if memory is None else {"consumedCapacity": {naming.MEMORY_CAPACITY: memory}}
    results = [
        {"request": "gpu", "driver": naming.DRIVER, "pool": pool, "device": device, "shareID": f"share-{number}"}
        | consumed
        | more
        for number, device in enumerate(devices)
    ]
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaim",
        "metadata": {"namespace": "tenants", "name": name, "uid": uid},
        "status": {"allocation": {"devices": {"results": results}}},
    }


@dataclass
class FakeDraApi:
    """`ports.cluster.Objects`; `away` makes every request fail."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    applied: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    away: ClusterError | None = None
    keep: Callable[[dict[str, Any]], None] = lambda _: None
    versions: int = 0

    def put(self, item: dict[str, Any]) -> dict[str, Any]:
        """Somebody else's object, or a change of one."""
        self.versions += 1
        stored = copy.deepcopy(item)
        stored["metadata"].setdefault("uid", f"uid-{self.versions}")
        stored["metadata"]["resourceVersion"] = str(self.versions)
        self.objects[item["kind"], item["metadata"]["name"]] = stored
        return copy.deepcopy(stored)

    def get(self, ref: ObjectRef) -> Manifest | None:
        self._asked()
        return copy.deepcopy(self.objects.get((ref.kind, ref.name)))

    def list(self, ref: ObjectRef, *, label_selector: str = "", field_selector: str = "") -> list[dict[str, Any]]:
        self._asked()
        return [copy.deepcopy(item) for (kind, _), item in sorted(self.objects.items()) if kind == ref.kind]

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        self._asked()
        before = self.objects.get((manifest["kind"], manifest["metadata"]["name"]))
        wanted = copy.deepcopy(dict(manifest))
        self.keep(wanted)  # what a server without a feature drops
        if before is not None:
            wanted["metadata"]["uid"] = before["metadata"]["uid"]
        if dry_run:
            return wanted
        self.applied.append(copy.deepcopy(dict(manifest)))
        return self.put(wanted)

    def delete(self, ref: ObjectRef, *, uid: str, dry_run: bool = False, cascade: bool = False) -> Removal:
        self._asked()
        if not dry_run:
            self.objects.pop((ref.kind, ref.name), None)
            self.deleted.append(ref.name)
        return Removal("accepted")

    def watch(
        self,
        ref: ObjectRef,
        *,
        label_selector: str = "",
        field_selector: str = "",
        trim: Callable[[Manifest], dict[str, Any]] | None = None,
        stop: Callable[[], bool],
    ) -> Iterator[WatchEvent]:
        raise NotImplementedError("the loop is tested on a real API server")

    def _asked(self) -> None:
        if self.away is not None:
            raise self.away


@dataclass
class FakeEvents:
    """`ports.events.Events` that keeps `(reason, message)`."""

    written: list[tuple[str, str]] = field(default_factory=list)

    def record(self, regarding: Manifest, reason: str, message: str, *, event_type: str = "Normal") -> None:
        self.written.append((reason, message))


@dataclass
class FakeDraMetrics:
    """`ports.dra_agent.DraMetrics` that keeps the last of each."""

    devices: int = 0
    generation: int = 0
    taints: list[tuple[str, str]] = field(default_factory=list)
    stands_back: bool = False
    took: bool = False
    claims: tuple[PreparedClaim, ...] = ()
    errors: list[str] = field(default_factory=list)

    def published(self, device_count: int, generation: int) -> None:
        self.devices, self.generation = device_count, generation

    def tainted(self, devices: Sequence[tuple[str, str]]) -> None:
        self.taints = list(devices)

    def standing_back(self, *, value: bool) -> None:
        self.stands_back = value

    def registered(self, *, value: bool) -> None:
        self.took = value

    def prepared(self, claims: Sequence[PreparedClaim]) -> None:
        self.claims = tuple(claims)

    def failed(self, what: str) -> None:
        self.errors.append(what)
