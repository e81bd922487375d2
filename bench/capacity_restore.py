"""How long a node that registers again is without its number, with the capacity watch running.

Brings up a lab of its own, runs `capacity watch` as a process, then deletes and registers nodes again:
bare Node objects, and a hollow kubelet a few times. The clock starts when this observer's own watch
sees the new Node object and stops when it sees capacity and allocatable on it, so both ends carry the
same delay. Prints one JSON line. Compared with: an hourly job alone (3600 s at worst).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.reregistration import BOUND_SECONDS, Observer, figures, measure
from helpers.adapters.kubernetes_ import connect
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, NodeCapacity
from lab import cluster as lab_cluster
from lab.cluster import Lab, LabNode

ROOT = Path(__file__).parents[1]
RESOURCE = "viktorbarzin.me/gpumem"
LABELS = {"bench.gpumem.io/kind": "t4"}
BARE, HOLLOW = "bench-bare", "bench-hollow"
HOURLY_JOB_SECONDS = 3600.0


def _uid_with_number(node: Mapping[str, Any]) -> str:
    status = node.get("status", {})
    shown = all(RESOURCE in status.get(amounts, {}) for amounts in ("capacity", "allocatable"))
    return str(node["metadata"]["uid"]) if shown else ""


def _settings() -> CapacitySettings:
    kind = NodeCapacity(
        name="t4",
        node_name=None,
        labels=LABELS,
        min_nodes=1,
        advertised_mib=14000,
        share_resource="nvidia.com/gpu",
        shares_count=8,
    )
    return CapacitySettings(
        resource=RESOURCE, kubernetes_version="1.36", label_prefix="gpumem.io", drain=False, nodes=(kind,)
    )


@contextlib.contextmanager
def _watching(lab: Lab, folder: Path) -> Iterator[None]:
    config = folder / names.CAPACITY_CONFIG_KEY
    config.write_text(_settings().to_json())
    environment = {**os.environ, "KUBECONFIG": str(lab.kubeconfig)}
    log = folder / "watch.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "helpers.apps.cli", "capacity", "watch", "--settings", str(config)]
        command += ["--namespace", "default", "--metrics-address", "127.0.0.1:0"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=output)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            if process.wait(BOUND_SECONDS) != 0:
                sys.stderr.write(log.read_text())
                raise SystemExit("the watch did not end cleanly")


def main() -> int:
    """Measures and prints; exit 1 where the p99 over the bare nodes is not under the bound asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="re-registrations of a bare node")
    parser.add_argument("--hollow-rounds", type=int, default=5, help="re-registrations of a hollow kubelet")
    parser.add_argument("--bound-seconds", type=float, default=1.0, help="what the p99 must be under")
    options = parser.parse_args()
    shares = {"nvidia.com/gpu": 8}
    nodes = [LabNode(BARE, LABELS, shares, "bare"), LabNode(HOLLOW, LABELS, shares, "hollow")]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            lab = lab_cluster.up("bench", nodes, root, lambda line: print(line, file=sys.stderr))
            with Observer(connect(lab.kubeconfig), _uid_with_number) as observer, _watching(lab, root):
                bare = figures(measure(lab, observer, BARE, options.rounds))
                hollow = figures(measure(lab, observer, HOLLOW, options.hollow_rounds))
        finally:
            lab_cluster.down("bench", root)
    print(
        json.dumps(
            {
                "benchmark": "capacity_restore",
                "kubernetes": lab_cluster.status("bench", root)["kubernetes"],
                "bare": bare,
                "hollow": hollow,
                "bound_seconds": options.bound_seconds,
                "compared_with": {"hourly_job_worst_seconds": HOURLY_JOB_SECONDS},
            }
        )
    )
    return 0 if bare["p99_seconds"] < options.bound_seconds else 1


if __name__ == "__main__":
    sys.exit(main())
