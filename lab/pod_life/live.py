"""One simulated pod: what it is, what it answers, what it logs."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.api import Object
from lab.pod_life import status
from lab.pod_life.behaviour import Behaviour
from lab.pod_life.shard import Shard
from lab.usage import UsageStore

RELEASE_PATH = "/release"


class HookLog:
    """Every hook request that any pod got, one JSON object a line, for tests to read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def record(self, pod: str, port: int, method: str, path: str, body: str) -> None:
        """Adds one request to the pod ``namespace/name``."""
        entry = {"at": now_text(), "pod": pod, "port": port, "method": method, "path": path, "body": body}
        with self._lock, self._path.open("a") as handle:
            handle.write(json.dumps(entry) + "\n")


def now_text() -> str:
    """This moment in the API's own format, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class LivePod:
    """A pod that this process carries; only its shard changes it."""

    pod: Object
    behaviour: Behaviour
    shard: Shard
    usage: UsageStore
    hooks: HookLog
    address: str = ""
    started_at: str = ""
    ready: bool = False
    ended: bool = False
    deleting: bool = False
    restarts: int = 0
    last: status.Ended | None = None
    unsent: Object | None = None
    lines: list[tuple[datetime, str]] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """The pod's uid."""
        uid: str = self.pod["metadata"]["uid"]
        return uid

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return key_of(self.pod)

    @property
    def path(self) -> str:
        """The pod's API path."""
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def say(self, line: str) -> None:
        """Adds a line to the pod's log."""
        self.lines.append((datetime.now(UTC), line))

    def answer(self, port: int, method: str, path: str, body: str) -> tuple[int, dict[str, Any]]:
        """A probe (GET, HEAD) or a hook (anything else); see `lab.pod_life.endpoints.Answers`."""
        about: dict[str, Any] = {"pod": self.key, "ready": self.ready}
        if not self.ready:
            return 503, about
        if method in {"GET", "HEAD"}:
            return 200, about
        self.say(f"{method} {path} on port {port}: {body}")
        self.hooks.record(self.key, port, method, path, body)
        if method == "POST" and path.partition("?")[0] == RELEASE_PATH:
            about["freed_mib"] = self.usage.free(self.key)
        return 200, about


def key_of(pod: Object) -> str:
    """``namespace/name`` of a pod."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def tcp_ports(pod: Object) -> list[int]:
    """The TCP ports that a pod's containers declare, each once."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    ports = {
        port["containerPort"]
        for container in containers
        for port in container.get("ports", [])
        if port.get("protocol", "TCP") == "TCP"
    }
    return sorted(ports)
