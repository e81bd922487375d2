"""The injector as a process of its own against the lab's API server, with its own rights and no more.

The stand-in in here: a lab has no kube-proxy, so the API server cannot reach a Service on loopback.
`pointed_at` writes the process's address into the rendered configuration (`clientConfig.url`) where it
names the Service. Everything else in it is what an estate is applied with.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.domain import names
from helpers.domain.admission.rights import injector_rights
from helpers.domain.admission.settings import AdmissionSettings
from helpers.domain.rights import Scope
from helpers.rendering.admission_webhook import Certificates
from lab.api import APPLY_PATCH, Api, ApiError
from lab.cluster import Lab
from lab.ports import free_ports
from lab.rights import grant_rights
from lab.waiting import wait_for

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
CONFIGURATION = f"{CONFIGURATIONS}/{names.WEBHOOK_CONFIGURATION}"
TERRAFORM = "gpumem-terraform"
LOOPBACK = "127.0.0.1"

Object = dict[str, Any]


def pointed_at(configuration: Object, port: int) -> Object:
    """The configuration with the process on `port` in place of the Service: the lab's stand-in for kube-proxy."""
    changed = copy.deepcopy(configuration)
    for webhook in changed["webhooks"]:
        service = webhook["clientConfig"].pop("service")
        webhook["clientConfig"]["url"] = f"https://{LOOPBACK}:{port}{service['path']}"
    return changed


def apply_configuration(api: Api, configuration: Object) -> None:
    """As Terraform applies it: server-side, by its own field manager."""
    api.patch(CONFIGURATION, configuration, APPLY_PATCH, fieldManager=TERRAFORM, force="true")


def make_namespace(api: Api, name: str, **labels: str) -> None:
    """A namespace, with the ServiceAccount without which it takes no pod."""
    with contextlib.suppress(ApiError):
        api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    wait_for(lambda: api.exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"))


def grant(lab: Lab, namespace: str, *, certificates: Certificates = "self", without: str = "") -> Path:
    """The injector's ServiceAccount with its rights, but for `without` (`verb resource`); its kubeconfig.

    `certificates`: who makes them; with cert-manager there are fewer rights.
    """
    make_namespace(lab.api(), namespace)
    places: list[tuple[Scope, str]] = [("cluster", ""), ("namespace", namespace), ("default", "default")]
    rights = injector_rights(certificates=certificates)
    return grant_rights(lab, namespace, names.INJECTOR_SERVICE_ACCOUNT, rights, places, without=without)


@dataclass
class InjectorProcess:
    """A running injector; `lines` reads its log."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    metrics_port: int

    def lines(self, event: str) -> list[Object]:
        """The log's lines about `event`."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def ready(self) -> bool:
        """What its /readyz says."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.metrics_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, line_start: str) -> float:
        """The value on the first line of /metrics that begins like this; -1 where there is none."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(line_start)), -1.0)

    def leads(self) -> bool:
        """Whether it may act on the certificate."""
        return self.metric("gpumem_injector_leader ") == 1

    def kill(self) -> None:
        """Ends it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def end(self) -> None:
        """Asks it to end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def injector(
    folder: Path,
    kubeconfig: Path,
    settings: AdmissionSettings,
    *,
    namespace: str,
    name: str = "injector",
    port: int | None = None,
    options: Sequence[str] = (),
    wait: bool = True,
) -> Iterator[InjectorProcess]:
    """The real program until the block ends; it has a certificate when the block begins (unless `wait` is off)."""
    document = folder / f"{name}.json"
    document.write_text(settings.to_json())
    log = folder / f"{name}.log"
    free, metrics_port = free_ports(2)
    port = port or free
    command = [sys.executable, "-m", "helpers.apps.cli", "injector", "run", "--settings", str(document)]
    command += ["--namespace", namespace, "--listen-address", f"{LOOPBACK}:{port}"]
    command += ["--metrics-address", f"{LOOPBACK}:{metrics_port}", "--dns-name", LOOPBACK, *options]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as stream:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stream)
    running = InjectorProcess(process, log, port, metrics_port)
    try:
        if wait:
            wait_for(lambda: running.ready() or process.poll() is not None)
        yield running
    finally:
        running.end()
