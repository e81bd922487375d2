"""The project's own measuring and defending processes, on a lab: simulated cards, exporters, watchdog, Prometheus.

Each runs the entry point that its container runs, with its own ServiceAccount's token.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from helpers.domain import names
from helpers.domain.estate import monitoring
from helpers.domain.estate.model import Estate
from helpers.domain.watchdog.rights import WATCHDOG_SERVICE_ACCOUNT
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring import rules_text
from lab.cluster import Lab
from lab.errors import LabError
from lab.gpu_simulation import FOLDER, NodeGpus, cards_by_node
from lab.ports import free_ports
from lab.prometheus import Prometheus, Target, start_prometheus

SIMULATION, WATCHDOG = "gpu-simulation", "watchdog"
READY_BOUND_SECONDS = 30.0
# For somebody who watches.
QUICK = ("--interval-seconds", "0.5", "--pods-interval-seconds", "2")
_GPUMEM = str(Path(sys.executable).parent / "gpumem")


@dataclass(frozen=True)
class Telemetry:
    """Where the exporters and the watchdog of a lab answer: `{node: host:port}`, `host:port`."""

    exporters: dict[str, str]
    watchdog: str

    def targets(self) -> list[Target]:
        """What a Prometheus scrapes."""
        exporters = [Target(monitoring.JOB_EXPORTER, at, {"node": node}) for node, at in self.exporters.items()]
        return [*exporters, Target(monitoring.JOB_WATCHDOG, self.watchdog)]


def start_exporters(lab: Lab, estate: Estate, estate_file: Path, rhythm: Sequence[str] = QUICK) -> Telemetry:
    """Simulated cards on every GPU node of the lab, and an exporter for each.

    `rhythm`: the exporters' flags about time; empty: their defaults.
    """
    nodes = cards_by_node(estate, lab.api().get("/api/v1/nodes")["items"])
    root = lab.dir.parent.parent
    command = [sys.executable, "-m", "lab.gpu_simulation", "--lab", lab.name, "--root", str(root)]
    lab.stop(SIMULATION)
    lab.spawn(SIMULATION, [*command, "--estate", str(estate_file)])
    token, ca = _credentials(lab, estate.namespace, names.EXPORTER_SERVICE_ACCOUNT)
    ports = free_ports(len(nodes) + 1)
    exporters = {}
    for node, port in zip(nodes, ports, strict=False):
        gpus = NodeGpus(lab.dir / FOLDER / node, node, nodes[node])
        _wait(gpus.state_file.is_file, f"the simulated cards of {node}")
        flags = ["--listen-port", str(port), "--node-name", node, "--resource", estate.resource]
        flags += ["--host-proc", str(gpus.proc_folder), *rhythm]
        flags += ["--pods-url", lab.server, "--token-file", str(token), "--ca-file", str(ca), "--no-require-host-pids"]
        lab.stop(f"exporter-{node}")
        lab.spawn(f"exporter-{node}", [_GPUMEM, "exporter", "run", *flags], gpus.exporter_environment())
        exporters[node] = f"127.0.0.1:{port}"
    for node, at in exporters.items():
        _wait(partial(_answers, f"http://{at}/metrics"), f"the exporter of {node}")
    return Telemetry(exporters, f"127.0.0.1:{ports[-1]}")


def start_watchdog(lab: Lab, estate: Estate, telemetry: Telemetry, record: Path | None = None) -> None:
    """The watchdog of `estate`, anew: armed or dry as the estate says, with its own rights."""
    settings = lab.dir / "watchdog.json"
    settings.write_text(watchdog_settings(estate).without_budgets().to_json())
    account = lab.service_account_kubeconfig(estate.namespace, WATCHDOG_SERVICE_ACCOUNT)
    command = [_GPUMEM, "watchdog", "run", "--settings", str(settings), "--kubeconfig", str(account)]
    command += ["--resource", estate.resource, "--label-prefix", estate.label_prefix, "--namespace", estate.namespace]
    command += ["--metrics-address", telemetry.watchdog]
    for node, at in telemetry.exporters.items():
        command += ["--exporter", f"{node}=http://{at}"]
    lab.stop(WATCHDOG)
    lab.spawn(WATCHDOG, [*command, *(["--record", str(record)] if record else [])])
    _wait(partial(_answers, f"http://{telemetry.watchdog}/metrics"), "the watchdog")


def start_alerts(lab: Lab, estate: Estate, telemetry: Telemetry) -> Prometheus:
    """A real Prometheus with the estate's own rules, scraping every second."""
    rules = rules_text(estate, watchdog_settings(estate), estate.monitoring)
    lab.stop("prometheus")
    return start_prometheus(lab, telemetry.targets(), rules)


def _credentials(lab: Lab, namespace: str, account: str) -> tuple[Path, Path]:
    """A ServiceAccount's token and the CA as files, as a pod has them mounted."""
    config = yaml.safe_load(lab.service_account_kubeconfig(namespace, account).read_text())
    token = lab.dir / f"{account}.token"
    token.touch(mode=0o600)
    token.write_text(config["users"][0]["user"]["token"])
    return token, lab.paths.pki / "ca.crt"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own, loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(ready: Callable[[], object], what: str) -> None:
    end = time.monotonic() + READY_BOUND_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise LabError(f"{what} did not answer within {READY_BOUND_SECONDS:.0f} s; see .lab/<name>/logs")
        time.sleep(0.1)
