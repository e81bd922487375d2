"""An API server in memory: `ports.cluster.Cluster` with ownership, versions, and refusals.

It keeps the two things that the services rest on as the real one does: server-side apply (conflicts,
release, and that releasing the last owned field below a parent removes the parent with everything in
it that nobody owns), and resource versions. Worlds that Kubernetes would never show are refused with
an AssertionError, so that no test passes on one.
"""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from helpers.domain.errors import ClusterError, Conflict, Forbidden, NotFound
from helpers.ports.cluster import Manifest, ObjectRef, Removal, WatchEvent
from tests.fakes.api_rules import Object, canonicalise, checked, merged, prune, selected
from tests.fakes.ownership import Manager, Path, dotted, leaves, managed_fields, put

CLUSTER_SCOPED = (
    "DeviceClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PriorityClass",
    "ResourceSlice",
)

Key = tuple[str, str, str]
Objects = list[dict[str, Any]]


class FakeCluster:
    """Tests fill it with `add`, change it behind the services' back with `write`, and read `calls`.

    `meanwhile` holds what happens while a watch is idle, one call at a time; a watch that is idle with
    nothing left to happen fails the test instead of hanging it.
    """

    def __init__(self, *, version: str = "1.36") -> None:
        self.version = version
        self.meanwhile: deque[Callable[[], None]] = deque()
        self.calls: list[str] = []
        self.disruption_budgets: set[str] = set()
        self.terminating_until: Callable[[], str] | None = None
        self.failures: dict[str, deque[Exception]] = defaultdict(deque)
        self._forbidden: set[tuple[str, str]] = set()
        self._objects: dict[Key, Object] = {}
        self._owners: dict[Key, dict[Manager, set[Path]]] = {}
        self._history: list[WatchEvent] = []
        self._versions = 0
        self._uids = 0

    # What tests do to the world.

    def add(self, manifest: Manifest, *, manager: str = "owner") -> Object:
        """An object made by somebody else; a Node's status has no owner, as after a registration."""
        created = self._create(copy.deepcopy(dict(manifest)), manager)
        return copy.deepcopy(created)

    def write(self, ref: ObjectRef, patch: Manifest, *, manager: str = "owner", subresource: str = "") -> None:
        """A change by somebody else."""
        self._merge(ref, patch, manager, subresource, dry_run=False)

    def remove(self, ref: ObjectRef) -> None:
        """A deletion by somebody else."""
        gone = self._objects.pop(_key(ref))
        self._owners.pop(_key(ref))
        self._history.append(WatchEvent("DELETED", gone))

    def forbid(self, verb: str, resource: str) -> None:
        """Takes a permission away: `forbid("patch", "Node/status")`."""
        self._forbidden.add((verb, resource))

    def fail_next(self, verb: str, *errors: Exception) -> None:
        """The next requests of `verb` fail with `errors`, in turn."""
        self.failures[verb].extend(errors)

    def now(self, ref: ObjectRef) -> Object:
        """The object as it is, without counting as a request."""
        return self._shown(_key(ref))

    def owned_by(self, ref: ObjectRef, manager: str) -> set[str]:
        """The fields that `manager` owns, as conflicts would name them."""
        owners = self._owners[_key(ref)]
        return {dotted(path) for each, paths in owners.items() if each.name == manager for path in paths}

    # The port.

    def server_version(self) -> str:
        self._request("get", "version")
        return self.version

    def get(self, ref: ObjectRef) -> Manifest | None:
        self._request("get", ref.kind, str(ref))
        return self._shown(_key(ref)) if _key(ref) in self._objects else None

    def list(self, ref: ObjectRef, *, label_selector: str = "", field_selector: str = "") -> Objects:
        self._request("list", ref.kind, field_selector)
        return [item for item in self._all(ref, label_selector) if selected(item, field_selector)]

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> dict[str, Any]:
        metadata = manifest["metadata"]
        ref = ObjectRef(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", ""))
        self._request("patch", _resource(ref, subresource), str(ref))
        assert subresource or "status" not in manifest, f"{ref}: the main resource drops status in silence"
        if _key(ref) not in self._objects:
            if subresource:
                raise NotFound(f"apply {ref}: 404")
            if ref.kind in ("Deployment", "StatefulSet", "DaemonSet"):
                raise ClusterError(f"apply {ref}: 422: spec.selector: Required value")
            return self._create(copy.deepcopy(dict(manifest)), field_manager, operation="Apply")
        if metadata.get("uid", self._objects[_key(ref)]["metadata"]["uid"]) != self._uid(ref):
            raise Conflict(f"apply {ref}: 409: uid mismatch")
        stored = self._objects[_key(ref)]["metadata"]["resourceVersion"]
        if metadata.get("resourceVersion", stored) != stored:
            raise Conflict(f"apply {ref}: 409: the object has been modified")
        return self._apply(ref, manifest, Manager(field_manager, "Apply", subresource), force=force, dry_run=dry_run)

    def merge_patch(
        self, ref: ObjectRef, patch: Manifest, *, field_manager: str, subresource: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        self._request("patch", _resource(ref, subresource), str(ref))
        return self._merge(ref, patch, field_manager, subresource, dry_run=dry_run)

    def create(self, manifest: Manifest, *, field_manager: str, dry_run: bool = False) -> dict[str, Any]:
        self._request("create", manifest["kind"], manifest["metadata"]["name"])
        assert not dry_run, "no service creates in a dry run"
        return self._create(copy.deepcopy(dict(manifest)), field_manager)

    def evict(self, ref: ObjectRef, *, uid: str, dry_run: bool = False) -> Removal:
        self._request("create", "Pod/eviction", f"{ref}{' (dry run)' if dry_run else ''}")
        if _key(ref) in self._objects and ref.name in self.disruption_budgets:
            return Removal("blocked", f"evict {ref}: 429: would violate the pod's disruption budget", 10.0)
        return self._terminate(ref, uid, dry_run=dry_run)

    def delete(self, ref: ObjectRef, *, uid: str, dry_run: bool = False, cascade: bool = False) -> Removal:
        self._request("delete", ref.kind, str(ref))
        if ref.kind == "Job":
            assert cascade, f"{ref}: without it the API leaves the Job's pods running"
            found = _key(ref) in self._objects and self._uid(ref) == uid
            if found and not dry_run:
                self.remove(ref)
            return Removal("accepted" if found else "gone")
        return self._terminate(ref, uid, dry_run=dry_run)

    def _terminate(self, ref: ObjectRef, uid: str, *, dry_run: bool) -> Removal:
        if _key(ref) not in self._objects or self._uid(ref) != uid:
            return Removal("gone", f"{ref}: 404 or another uid")
        if not dry_run and "deletionTimestamp" not in self._objects[_key(ref)]["metadata"]:
            assert self.terminating_until is not None, f"{ref}: the test does not say how pods terminate"
            self._objects[_key(ref)]["metadata"]["deletionTimestamp"] = self.terminating_until()
            self._changed(ref, "MODIFIED")
        return Removal("accepted")

    def watch(
        self,
        ref: ObjectRef,
        *,
        label_selector: str = "",
        field_selector: str = "",
        trim: Callable[[Manifest], Object] | None = None,
        stop: Callable[[], bool],
    ) -> Iterator[WatchEvent]:
        self._request("watch", ref.kind)
        position = len(self._history)
        for item in self._all(ref, label_selector):
            if selected(item, field_selector):
                yield WatchEvent("ADDED", trim(item) if trim else item)
        while not stop():
            if position < len(self._history):
                event = self._history[position]
                position += 1
                if event.object["kind"] == ref.kind and selected(event.object, field_selector):
                    shown = copy.deepcopy(event)
                    yield WatchEvent(shown.type, trim(shown.object) if trim else shown.object)
            else:
                assert self.meanwhile, f"the watch of {ref} would wait for ever"
                self.meanwhile.popleft()()

    # How it works.

    def _request(self, verb: str, resource: str, about: str = "") -> None:
        self.calls.append(f"{verb} {resource} {about}".strip())
        if (verb, resource) in self._forbidden:
            raise Forbidden(f"{verb} {resource}: 403: cannot {verb} resource {resource}")
        if self.failures[verb]:
            raise self.failures[verb].popleft()

    def _create(self, manifest: Object, manager: str, *, operation: str = "Update") -> Object:
        ref = checked(manifest)
        if _key(ref) in self._objects:
            raise Conflict(f"create {ref}: 409: already exists")
        place = manifest.get("spec", {}).get("nodeName") if ref.kind == "Pod" else None
        assert place is None or ("Node", "", place) in self._objects, f"{ref} runs on a node {place} that is not there"
        canonicalise(manifest)
        self._uids += 1
        manifest["metadata"] |= {"uid": f"uid-{self._uids}", "generation": 1}
        self._objects[_key(ref)] = manifest
        self._owners[_key(ref)] = {Manager(manager, operation, ""): set(leaves(manifest, ""))}
        self._changed(ref, "ADDED")
        return self._shown(_key(ref))

    def _apply(self, ref: ObjectRef, manifest: Manifest, manager: Manager, *, force: bool, dry_run: bool) -> Object:
        before, owners = self._objects[_key(ref)], copy.deepcopy(self._owners[_key(ref)])
        after, wanted = copy.deepcopy(before), copy.deepcopy(dict(manifest))
        canonicalise(wanted)
        wish, current = leaves(wanted, manager.subresource), leaves(before, manager.subresource)
        contested: dict[Manager, list[Path]] = defaultdict(list)
        for path, value in wish.items():
            for other, paths in owners.items():
                if other != manager and path in paths and current.get(path) != value:
                    contested[other].append(path)
        if contested and not force:
            fields = "; ".join(
                f'conflict with "{other.name}": {" ".join(dotted(path) for path in sorted(theirs))}'
                for other, theirs in contested.items()
            )
            raise Conflict(f"apply {ref}: 409: Apply failed with {len(contested)} conflict: {fields}")
        for other, theirs in contested.items():
            owners[other] -= set(theirs)
        released = owners.get(manager, set()) - set(wish)
        owners[manager] = set(wish)
        for path, value in wish.items():
            put(after, path, value)
        prune(after, released, owners)
        return self._store(ref, after, owners, dry_run=dry_run)

    def _merge(
        self, ref: ObjectRef, patch: Manifest, manager_name: str, subresource: str, *, dry_run: bool
    ) -> dict[str, Any]:
        if _key(ref) not in self._objects:
            raise NotFound(f"patch {ref}: 404")
        before = self._objects[_key(ref)]
        read = patch.get("metadata", {}).get("resourceVersion", before["metadata"]["resourceVersion"])
        if read != before["metadata"]["resourceVersion"]:
            raise Conflict(f"patch {ref}: 409: the object has been modified")
        assert subresource or "status" not in patch, f"{ref}: the main resource drops status in silence"
        after = merged(before, patch)
        canonicalise(after)
        old, new = leaves(before, subresource), leaves(after, subresource)
        changed = {path for path, value in new.items() if old.get(path, ...) != value}
        owners = {
            manager: {path for path in paths if path not in changed and (path in new or path not in old)}
            for manager, paths in self._owners[_key(ref)].items()
        }
        owners.setdefault(Manager(manager_name, "Update", subresource), set()).update(changed)
        return self._store(ref, after, owners, dry_run=dry_run)

    def _store(self, ref: ObjectRef, after: Object, owners: dict[Manager, set[Path]], *, dry_run: bool) -> Object:
        owners = {manager: paths for manager, paths in owners.items() if paths}
        before = self._objects[_key(ref)]
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] += 1
        if dry_run:
            fields = managed_fields(owners, ref.api_version)
            return {**after, "metadata": {**after["metadata"], "managedFields": fields}}
        same = after == before and owners == self._owners[_key(ref)]
        self._objects[_key(ref)], self._owners[_key(ref)] = after, owners
        if not same:
            self._changed(ref, "MODIFIED")
        return self._shown(_key(ref))

    def _changed(self, ref: ObjectRef, event_type: Literal["ADDED", "MODIFIED"]) -> None:
        self._versions += 1
        self._objects[_key(ref)]["metadata"]["resourceVersion"] = str(self._versions)
        self._history.append(WatchEvent(event_type, self._shown(_key(ref))))

    def _shown(self, key: Key) -> Object:
        shown = copy.deepcopy(self._objects[key])
        shown["metadata"]["managedFields"] = managed_fields(self._owners[key], shown["apiVersion"])
        return shown

    def _all(self, ref: ObjectRef, label_selector: str) -> Objects:
        wanted = dict(pair.split("=", 1) for pair in label_selector.split(",") if pair)
        return [
            self._shown(key)
            for key in sorted(self._objects)
            if key[0] == ref.kind
            and ref.namespace in ("", key[1])
            and wanted.items() <= self._objects[key]["metadata"].get("labels", {}).items()
        ]

    def _uid(self, ref: ObjectRef) -> str:
        return str(self._objects[_key(ref)]["metadata"]["uid"])


def _key(ref: ObjectRef) -> Key:
    assert bool(ref.namespace) != (ref.kind in CLUSTER_SCOPED), f"{ref}: namespace {ref.namespace!r} of a {ref.kind}"
    return (ref.kind, ref.namespace, ref.name)


def _resource(ref: ObjectRef, subresource: str) -> str:
    return f"{ref.kind}/{subresource}" if subresource else ref.kind
