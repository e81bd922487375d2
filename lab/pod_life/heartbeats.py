"""Keeps bare nodes alive as a kubelet would: Leases, the Ready condition, allocatable resources."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from lab.api import HTTP_NOT_FOUND, STRATEGIC_PATCH, Api, ApiError, Object
from lab.nodes import is_ready, lease_path

PERIOD_SECONDS = 10.0  # a kubelet's own
LEASE_SECONDS = 40
LOG = logging.getLogger(__name__)


class Heartbeats(threading.Thread):
    """Renews every bare node's Lease, and syncs its status, every 10 s as kubelets do."""

    def __init__(self, api: Api) -> None:
        super().__init__(name="heartbeats", daemon=True)
        self._api = api
        self._nodes: dict[str, Object] = {}
        self._lock = threading.Lock()
        self._new = threading.Event()

    def node_changed(self, node: Object) -> None:
        """A bare node is there or has changed; a new one gets its first heartbeat at once."""
        name = node["metadata"]["name"]
        with self._lock:
            old = self._nodes.get(name)
            self._nodes[name] = node
        if old is None or old["metadata"]["uid"] != node["metadata"]["uid"]:
            self._new.set()

    def node_deleted(self, node: Object) -> None:
        """A bare node is gone."""
        with self._lock:
            known = self._nodes.get(node["metadata"]["name"])
            if known is not None and known["metadata"]["uid"] == node["metadata"]["uid"]:
                del self._nodes[node["metadata"]["name"]]

    def run(self) -> None:
        """The thread's loop."""
        beaten: set[str] = set()
        due = time.monotonic()
        while True:
            only_new = self._new.wait(max(due - time.monotonic(), 0.0)) and time.monotonic() < due
            self._new.clear()
            if not only_new:
                beaten.clear()
                due = time.monotonic() + PERIOD_SECONDS
            with self._lock:
                nodes = list(self._nodes.values())
            for node in nodes:
                if node["metadata"]["uid"] not in beaten:
                    beaten.add(node["metadata"]["uid"])
                    self._beat(node)

    def _beat(self, node: Object) -> None:
        try:
            self._renew_lease(node)
            if patch := status_patch(node):
                self._api.patch(f"/api/v1/nodes/{node['metadata']['name']}/status", patch, STRATEGIC_PATCH)
        except ApiError as error:
            LOG.warning("heartbeat of %s: %s", node["metadata"]["name"], error)

    def _renew_lease(self, node: Object) -> None:
        name = node["metadata"]["name"]
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        path = lease_path(name)
        try:
            self._api.patch(path, {"spec": spec})
        except ApiError as error:
            if error.status != HTTP_NOT_FOUND:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
            self._api.post(
                path.rpartition("/")[0],
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": name, "ownerReferences": [owner]},
                    "spec": spec,
                },
            )


def status_patch(node: Object) -> Object | None:
    """What a kubelet's status sync would write on this node; None where nothing differs.

    A kubelet writes allocatable anew from capacity: a capacity that somebody patched in becomes
    schedulable with the next sync, and one that was taken away stops being so.
    """
    status: Object = {}
    capacity, allocatable = node["status"].get("capacity", {}), node["status"].get("allocatable", {})
    if capacity != allocatable:
        status["allocatable"] = capacity | dict.fromkeys(allocatable.keys() - capacity.keys())
    if not is_ready(node):
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "LabPodLife", "message": ""}
        status["conditions"] = [ready | {"lastHeartbeatTime": now, "lastTransitionTime": now}]
    return {"status": status} if status else None
