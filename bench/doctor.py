"""How long `gpumem doctor` takes on 100 GPU nodes with 1,000 pods; one JSON line. Target: under 5 s.

Brings up a lab of its own with bare Node objects that nobody keeps alive, applies the example estate and
binds pods to the nodes by hand. Timed is the whole command, start of Python included, as a person waits
for it. Most of what it finds is the missing exporters: their pods have no kubelet.
Run: python -m bench.doctor
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import busy_seconds
from helpers.domain import names
from helpers.rendering.estate_file import load_estate
from lab import cluster as lab_cluster
from lab.api import Api
from lab.applied import apply_estate
from lab.cluster import Lab, LabNode
from lab.nodes import BARE_LABEL, bare_node

ROOT = Path(__file__).parents[1]
RESOURCE = "viktorbarzin.me/gpumem"
TARGET_SECONDS = 5.0
PARALLEL_COUNT = 16


def main() -> int:
    """Prints the figures; exit 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--pods-per-node", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            lab = lab_cluster.up("bench-doctor", (), Path(folder))
            file = prepare(lab, Path(folder), arguments.nodes, arguments.pods_per_node)
            runs = [timed(lab, file) for _ in range(arguments.runs)]
        finally:
            lab_cluster.down("bench-doctor", Path(folder))
    seconds = sorted(one["seconds"] for one in runs)
    worst_seconds = seconds[-1]
    figures = {
        "bench": "doctor",
        "nodes_count": arguments.nodes,
        "pods_count": arguments.nodes * arguments.pods_per_node,
        "runs": arguments.runs,
        "median_seconds": round(statistics.median(seconds), 2),
        "worst_seconds": round(worst_seconds, 2),
        # What it used of a processor itself: what is left of the wall time on a machine with nothing else to do.
        "median_cpu_seconds": round(statistics.median(one["cpu_seconds"] for one in runs), 2),
        "findings_count": runs[-1]["findings_count"],
        "cores": os.cpu_count(),
        "cores_busy_mean": round(statistics.mean(one["cores_busy"] for one in runs), 1),
        "load_1m": round(os.getloadavg()[0], 1),
        "compared_with": f"target {TARGET_SECONDS:.0f} s",
        "target_met": worst_seconds < TARGET_SECONDS,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if worst_seconds < TARGET_SECONDS else 1


def prepare(lab: Lab, folder: Path, nodes_count: int, pods_per_node: int) -> Path:
    """Nodes, the estate on them, and pods; the estate's file."""
    file = folder / "gpumem.yaml"
    file.write_text((ROOT / "gpumem.yaml").read_text().replace("min_nodes: 1 #", f"min_nodes: {nodes_count} #", 1))
    api = lab.api()
    nodes = [f"bench-{number}" for number in range(nodes_count)]
    with ThreadPoolExecutor(PARALLEL_COUNT) as pool:
        list(pool.map(partial(add_node, api), nodes))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            apply_estate(lab, load_estate(file)[0])
        api.post("/api/v1/namespaces", {"metadata": {"name": "load"}})
        time.sleep(1)  # its ServiceAccount, without which no pod is admitted
        places = [(node, number) for node in nodes for number in range(pods_per_node)]
        list(pool.map(partial(add_pod, api), places))
    return file


def add_node(api: Api, name: str) -> None:
    """A Node object that shows a T4's shares and memory."""
    labels = {"nvidia.com/gpu.present": "true", names.DEVICE_PLUGIN_CONFIG_LABEL: "t4-node"}
    node = bare_node(LabNode(name, labels, {"nvidia.com/gpu": 8, RESOURCE: 14000}, "bare"), 1)
    del node["metadata"]["labels"][BARE_LABEL]  # no pod life for so many
    api.post("/api/v1/nodes", node)


def add_pod(api: Api, place: tuple[str, int]) -> None:
    """A pod that holds a thousand MiB of that node."""
    node, number = place
    container = {"name": "main", "image": "x:1", "resources": {"limits": {RESOURCE: "1000"}}}
    spec = {"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    api.post("/api/v1/namespaces/load/pods", {"metadata": {"name": f"{node}-{number}"}, "spec": spec})


def timed(lab: Lab, file: Path) -> dict[str, Any]:
    """One run of the command."""
    command = [sys.executable, "-m", "helpers.apps.cli", "doctor", "-f", str(file), "-o", "json"]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy, began = busy_seconds(), time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)}, capture_output=True, check=False
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr.decode())
    return {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime,
        "cores_busy": (busy_seconds() - busy) / seconds,
        "findings_count": len(json.loads(done.stdout)),
    }


if __name__ == "__main__":
    sys.exit(main())
