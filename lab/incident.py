"""The T4's tenants on the lab, and watchdogs as processes of their own: for tests and the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from helpers.domain.rights import Scope
from helpers.domain.watchdog.rights import watchdog_rights
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings
from lab.api import Api, ApiError
from lab.cluster import Lab, LabNode
from lab.errors import LabError
from lab.rights import grant_rights
from lab.waiting import wait_for

RESOURCE = "viktorbarzin.me/gpumem"
WATCHDOG_NAMESPACE = "gpumem-watch"
FLOOR_MIB = 1536
# Tenant: its budget and what it holds when all is well, MiB.
TENANTS = {"immich-ml": (3000, 2048), "frigate": (2000, 1700), "ollama": (5000, 1200)}
GROWN_MIB = 10957
NODE_NAME = "t4-lab"
POLL_SECONDS = 0.05


def t4_node(name: str = NODE_NAME) -> LabNode:
    """A bare T4 node that only this incident's pods are put on."""
    return LabNode(name, {"gpumem-test": name}, {RESOURCE: 14000, "nvidia.com/gpu": 8}, "bare")


def deployment(namespace: str, tenant: str, node: str, **annotations: str) -> dict[str, Any]:
    """A tenant's Deployment: its budget, what it holds, and annotations that steer its life."""
    budget_mib, used_mib = TENANTS[tenant]
    notes = {"lab.gpumem.io/used-mib": str(used_mib)} | {
        f"lab.gpumem.io/{key.replace('_', '-')}": value for key, value in annotations.items()
    }
    resources = {"limits": {RESOURCE: str(budget_mib)}}
    container = {"name": "main", "image": "x:1", "resources": resources, "ports": [{"containerPort": 8080}]}
    template = {
        "metadata": {"labels": {"app": tenant}, "annotations": notes},
        "spec": {
            "nodeSelector": {"gpumem-test": node},
            "containers": [container],
            "terminationGracePeriodSeconds": 600 if "terminate_after_seconds" in annotations else 30,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": tenant, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": tenant}},
            "template": template,
        },
    }


@dataclass
class Tenants:
    """The tenants of one namespace on one node of the lab."""

    lab: Lab
    namespace: str
    node: str = NODE_NAME
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        self.api = self.lab.api()

    @property
    def base(self) -> str:
        """The API path of the tenants' namespace."""
        return f"/api/v1/namespaces/{self.namespace}"

    def create(self, **annotations: dict[str, str]) -> None:
        """All three; `annotations` of a tenant by its name with underscores."""
        self.api.post("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        wait_for(lambda: self.api.get(f"{self.base}/serviceaccounts")["items"])
        for tenant in TENANTS:
            more = annotations.get(tenant.replace("-", "_"), {})
            self.api.post(
                f"/apis/apps/v1/namespaces/{self.namespace}/deployments",
                deployment(self.namespace, tenant, self.node, **more),
            )
        wait_for(lambda: len(self.running()) == len(TENANTS))

    def delete(self) -> None:
        """Takes the tenants away."""
        self.api = self.lab.api()  # the kept connection was idle, and the server may have closed it
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")
        for pod in self.api.get(f"{self.base}/pods")["items"]:
            # One that a test keeps terminating for minutes would do so here, too.
            self.api.delete(f"{self.base}/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
        wait_for(lambda: not self.pods())

    def pods(self) -> dict[str, dict[str, Any]]:
        """`{uid: pod}`, terminating ones included."""
        return {pod["metadata"]["uid"]: pod for pod in self.api.get(f"{self.base}/pods")["items"]}

    def running(self) -> dict[str, str]:
        """`{tenant: uid}` of pods that run and do not terminate."""
        return {
            pod["metadata"]["labels"]["app"]: uid
            for uid, pod in self.pods().items()
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        }

    def grow(self, tenant: str = "immich-ml", used_mib: int = GROWN_MIB) -> str:
        """The pod (`namespace/name`) that holds that much from now on."""
        return self.lab.set_usage(self.namespace, tenant, used_mib)[0]

    def held_mib(self) -> dict[str, int]:
        """`{namespace/pod: MiB}` of the tenants' pods."""
        return {pod: one.used_mib for pod, one in self.lab.read_usage().items() if pod.startswith(f"{self.namespace}/")}

    def free_mib(self) -> int:
        """Free MiB on the simulated card."""
        used = sum(one.used_mib for one in self.lab.read_usage().values() if one.node == self.node)
        return 15360 - 450 - used

    def events(self) -> list[dict[str, Any]]:
        """The Events that the watchdog wrote there."""
        return [e for e in self.api.get(f"{self.base}/events")["items"] if e["reason"].startswith("Gpumem")]

    def disruption_budget(self, tenant: str) -> None:
        """One that never lets the only pod go."""
        self.api.post(
            f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets",
            {
                "metadata": {"name": tenant},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": tenant}}},
            },
        )
        path = f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets/{tenant}"
        wait_for(lambda: self.api.get(path).get("status", {}).get("currentHealthy") == 1)

    def settings(self, **more: Any) -> WatchdogSettings:
        """The watchdog's document for these tenants, with `more` changed."""
        rules = [
            TenantRule.model_validate(
                {
                    "name": tenant,
                    "namespace": self.namespace,
                    "kind": "Deployment",
                    "workload": tenant,
                    "container": "main",
                    "budget_mib": budget_mib,
                    **more.get("rules", {}).get(tenant, {}),
                }
            )
            for tenant, (budget_mib, _) in TENANTS.items()
        ]
        given = {key: value for key, value in more.items() if key != "rules"}
        return WatchdogSettings.model_validate({"floor_mib": FLOOR_MIB, "dry_run": False, "tenants": rules} | given)


def grant(
    lab: Lab,
    namespace: str = WATCHDOG_NAMESPACE,
    *,
    allow_delete: bool = False,
    exec_in: str = "",
    claims: bool = False,
    without: str = "",
) -> Path:
    """The watchdog's ServiceAccount with its rights, but for `without` (`verb resource`); its kubeconfig.

    `exec_in`: the namespace of tenants whose release hooks are commands. `claims`: budgets are claims.
    """
    api, account = lab.api(), "gpumem-watchdog"
    with contextlib.suppress(ApiError):
        api.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    rights = watchdog_rights(allow_delete=allow_delete, allow_exec=bool(exec_in), claims=claims)
    places: list[tuple[Scope, str]] = [("cluster", ""), ("namespace", namespace)]
    if exec_in:
        places.append(("tenants", exec_in))
    return grant_rights(lab, namespace, account, rights, places, without=without)


@dataclass
class Running:
    """A watchdog process; `lines` reads its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines about `event`."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def kill(self) -> None:
        """Ends it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def pause(self) -> None:
        """Stops it where it stands."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def watchdog(
    folder: Path,
    kubeconfig: Path,
    settings: WatchdogSettings,
    exporters: Sequence[str],
    *,
    namespace: str = WATCHDOG_NAMESPACE,
    name: str = "watchdog",
    wait: bool = True,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Running]:
    """The real program, with real rights, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    document = folder / f"{name}.json"
    document.write_text(settings.to_json())
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "helpers.apps.cli", "watchdog", "run", "--settings", str(document)]
    command += ["--resource", RESOURCE, "--namespace", namespace, "--metrics-address", "", *arguments]
    for target in exporters:
        command += ["--exporter", target]
    variables = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONUNBUFFERED": "1", **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=stream)
    running = Running(process, log)
    try:
        if wait:
            wait_for(lambda: running.lines("pass_finished") or process.poll() is not None)
            if process.poll() is not None:
                raise LabError(f"the watchdog ended at once: {log.read_text()[-2000:]}")
        yield running
    finally:
        running.resume()
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            running.kill()


def wait_free(tenants: Tenants, bound_seconds: float = 120.0) -> float:
    """When the card has its floor again, on the monotonic clock."""
    until = time.monotonic() + bound_seconds
    while tenants.free_mib() < FLOOR_MIB:
        if time.monotonic() > until:
            raise LabError(f"{tenants.free_mib()} MiB free after {bound_seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic()
