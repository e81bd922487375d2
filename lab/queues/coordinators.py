"""Coordinators as processes of their own, as an operator starts them; and the estate that they read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.domain.lanes.settings import CoordinatorSettings
from lab.errors import LabError
from lab.queues.apps import wait_until


@dataclass(frozen=True)
class InCluster:
    """Who it is in which cluster, and where its Lease is."""

    kubeconfig: Path
    namespace: str

    def arguments(self) -> list[str]:
        """Of `gpumem coordinator run`."""
        return ["--kubeconfig", str(self.kubeconfig), "--lease-namespace", self.namespace]


class CoordinatorProcess:
    """`gpumem coordinator run`, outside Kubernetes where no cluster is given; `log` holds its lines as they come."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        folder: Path,
        *,
        address: str = "127.0.0.1:0",
        cluster: InCluster | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        document = folder / "coordinator.json"
        document.write_text(settings.to_json())
        command = [sys.executable, "-m", "helpers.apps.cli", "coordinator", "run"]
        command += ["--no-kubernetes"] if cluster is None else cluster.arguments()
        command += ["--settings", str(document), "--address", address, *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it answers."""
        (served,) = self.of("http_served")
        return f"http://127.0.0.1:{served['port']}"

    @property
    def lease_url(self) -> str:
        """Where it answers for leases."""
        (served,) = self.of("leases_served")
        return f"http://127.0.0.1:{served['port']}"

    def of(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that event."""
        return [line for line in list(self.log) if line["event"] == event]

    def ready(self) -> CoordinatorProcess:
        """Waits until it leads and hears every event from then on."""
        wait_until(lambda: bool(self.of("queues_followed")), "the coordinator leads and listens")
        return self

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and it ends by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def _read(self) -> None:
        for line in self.process.stderr or ():
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "not_json", "text": line})


@contextmanager
def coordinator(
    settings: CoordinatorSettings, folder: Path, cluster: InCluster | None = None
) -> Iterator[CoordinatorProcess]:
    """One that leads, and is gone afterwards."""
    with starting_coordinator(settings, folder, cluster) as running:
        yield running.ready()


@contextmanager
def starting_coordinator(
    settings: CoordinatorSettings, folder: Path, cluster: InCluster | None = None
) -> Iterator[CoordinatorProcess]:
    """One that nobody has waited for yet, so that other programs start beside it."""
    running = CoordinatorProcess(settings, folder, cluster=cluster)
    try:
        yield running
    finally:
        running.kill()
        if running.of("not_json"):
            raise LabError(f"the coordinator wrote what is no log line: {running.of('not_json')}")
