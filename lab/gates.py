"""Gated tenants on the lab: Deployments on one card, and a coordinator whose wall clock is set."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_ import connect
from helpers.apps.coordinator import RunSettings, run_coordinator
from helpers.domain.lanes.settings import CoordinatorSettings
from lab.api import Api, ApiError
from lab.cluster import Lab, LabNode
from lab.small_exporter import LabExporter
from lab.waiting import wait_for

HOME = "gates-home"
_DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"


def gates_node(name: str) -> LabNode:
    """A bare node that only these tenants are put on."""
    return LabNode(name, {"gpumem-test": name}, {}, "bare")


class SetClock(SystemClock):
    """Its wall clock shows what it was set to; everything else takes real time."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now_at(self) -> datetime:
        """The instant that was set."""
        return self.at


@dataclass
class GatedTenants:
    """Deployments `{(namespace, name): MiB that a pod uses}` on one node, all with 0 replicas."""

    lab: Lab
    node: str
    used_mib: dict[tuple[str, str], int]

    @property
    def api(self) -> Api:
        """The administrator's client."""
        return self.lab.api()

    def create(self) -> None:
        """All of them, and the namespaces."""
        for namespace in sorted({namespace for namespace, _ in self.used_mib} | {HOME}):
            with contextlib.suppress(ApiError):
                self.api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
            wait_for(lambda place=namespace: self.api.get(f"/api/v1/namespaces/{place}/serviceaccounts")["items"])  # type: ignore[misc]
        for namespace, name in self.used_mib:
            self.api.post(_DEPLOYMENTS.format(namespace), self._deployment(name, self.used_mib[namespace, name]))

    def delete(self) -> None:
        """Takes them away."""
        for namespace, name in self.used_mib:
            self.api.delete(f"{_DEPLOYMENTS.format(namespace)}/{name}")
        wait_for(lambda: not self.pods())

    def replicas(self, namespace: str, name: str) -> int:
        """What stands in the workload."""
        return int(self.api.get(f"{_DEPLOYMENTS.format(namespace)}/{name}")["spec"]["replicas"])

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        """As a person does it."""
        self.api.patch(f"{_DEPLOYMENTS.format(namespace)}/{name}/scale", {"spec": {"replicas": replicas}})

    def pods(self, phase: str = "") -> list[str]:
        """The workloads of all pods that are still there (in `phase`), those that terminate included."""
        namespaces = sorted({namespace for namespace, _ in self.used_mib})
        found = [pod for place in namespaces for pod in self.api.get(f"/api/v1/namespaces/{place}/pods")["items"]]
        return sorted(pod["metadata"]["labels"]["app"] for pod in found if phase in ("", pod["status"].get("phase")))

    def events(self, namespace: str, name: str) -> list[str]:
        """The reasons of the Events on that workload, in their order."""
        found = self.api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        ours = [event for event in found if event["involvedObject"]["name"] == name and "Gate" in event["reason"]]
        return [event["reason"] for event in sorted(ours, key=_written)]

    @contextmanager
    def counted(self, names: set[str]) -> Iterator[list[int]]:
        """Looks all the while how many pods of `names` there are; the list's only entry is the most of them."""
        most = [0]
        stopped = threading.Event()

        def look() -> None:
            while not stopped.wait(0.1):
                most[0] = max(most[0], len([name for name in self.pods() if name in names]))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield most
        finally:
            stopped.set()
            thread.join(10)

    def _deployment(self, name: str, used_mib: int) -> dict[str, Any]:
        notes = {"lab.gpumem.io/used-mib": str(used_mib), "lab.gpumem.io/terminate-after-seconds": "2"}
        container = {"name": "main", "image": "x:1"}
        spec = {
            "nodeSelector": {"gpumem-test": self.node},
            "containers": [container],
            "terminationGracePeriodSeconds": 30,
        }
        return {
            "metadata": {"name": name},
            "spec": {
                "replicas": 0,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}, "annotations": notes}, "spec": spec},
            },
        }


def _written(event: dict[str, Any]) -> int:
    return int(event["metadata"]["resourceVersion"])


def quick(settings: CoordinatorSettings, redis_url: str, exporter: LabExporter, **fields: Any) -> CoordinatorSettings:
    """The same with the lab's addresses, and gates that need seconds where others need minutes."""
    document = json.loads(settings.to_json())
    document["redis"]["url"] = redis_url
    url = f"http://127.0.0.1:{exporter.port}/metrics"
    for engine in document["engines"]:
        engine["engine"]["exporter_url"] = url
    for node in (document["leases"] or {"nodes": []})["nodes"]:
        node["exporter_url"] = url
    for rule in document["gates"]:
        rule["gate"] |= {"open_after_seconds": 1, "close_after_seconds": 2, **fields}
    return CoordinatorSettings.model_validate_json(json.dumps(document))


@contextmanager
def coordinating(settings: CoordinatorSettings, kubeconfig: Path, clock: SetClock) -> Iterator[None]:
    """The coordinator in a thread of this process, so that its clock can be set."""
    stopped = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        run_settings = RunSettings(namespace=HOME, address="")
        try:
            run_coordinator(settings, run_settings, connect(kubeconfig), stop=stopped.is_set, clock=clock)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(30)
    if failed:
        raise failed[0]
