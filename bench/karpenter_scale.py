"""From no GPU node to ten and back, by the real Karpenter, driven by Jobs whose pods wait.

Brings up a lab of its own without a node, Karpenter with its kwok provider, and the node pool as the
rendering makes it. Every Job takes a whole machine. Hollow kubelets (or, with --job-seconds, pod life, on
which Jobs end by themselves) adopt the Node objects, so a node's own boot (minutes in a cloud) is not in
the figures: they show what Karpenter, scheduler and kubelet add.
Prints one JSON line. Compared with: the five minutes that the field's own requirement gives a scale-up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from lab import cluster as lab_cluster
from lab.cluster import Lab
from lab.karpenter import GPU, KARPENTER_VERSION, Adopter, Machine, ensure_karpenter, karpenter
from lab.scaling import (
    apply_platform,
    create_jobs,
    delete_jobs,
    gpu_job,
    initialized,
    running_pods,
    scaling_estate,
)
from lab.state import NodeKind

MACHINE = Machine("p4de.24xlarge", 8, 27.44705)
POLL_SECONDS = 0.1
BOUND_SECONDS = 240.0
WANTED_SCALE_UP_SECONDS = 300.0


def _up(lab: Lab, adopter: Adopter, nodes_count: int, job_seconds: float | None) -> dict[str, float]:
    """Submits the jobs; seconds until the first and last node object, ready node and running pod."""
    api, began = lab.api(), time.monotonic()
    wanted = {GPU: str(MACHINE.gpu_count)}
    create_jobs(api, [gpu_job(f"scale-{index}", wanted, job_seconds) for index in range(nodes_count)])
    seen: dict[str, float] = {}
    while len(seen) < 6:
        now = time.monotonic() - began
        if now > BOUND_SECONDS:
            raise SystemExit(f"after {BOUND_SECONDS:.0f} s: {seen}")
        counts = {
            "node_object": len(adopter.nodes()),
            "node_ready": len(initialized(api)),
            "pod_running": len(running_pods(api)),
        }
        for what, count in counts.items():
            if count >= 1:
                seen.setdefault(f"first_{what}_seconds", round(now, 2))
            if count >= nodes_count:
                seen.setdefault(f"last_{what}_seconds", round(now, 2))
        time.sleep(POLL_SECONDS)
    return seen


def _wait_until_all_ended(lab: Lab) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while running_pods(lab.api()):
        if time.monotonic() > deadline:
            raise SystemExit(f"jobs run still after {BOUND_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _down(lab: Lab, adopter: Adopter, nodes_count: int) -> dict[str, float]:
    """Cancels the jobs that have not ended; seconds from then until the first and the last machine is gone."""
    api = lab.api()
    delete_jobs(api, [gpu_job(f"scale-{index}", {}) for index in range(nodes_count)])
    began = time.monotonic()
    seen: dict[str, float] = {}
    while "last_node_gone_seconds" not in seen:
        now, left = time.monotonic() - began, len(adopter.nodes())
        if now > BOUND_SECONDS:
            raise SystemExit(f"{left} nodes are left after {BOUND_SECONDS:.0f} s")
        if left < nodes_count:
            seen.setdefault("first_node_gone_seconds", round(now, 2))
        if left == 0:
            seen["last_node_gone_seconds"] = round(now, 2)
        time.sleep(POLL_SECONDS)
    return seen


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> int:
    """Measures and prints; exit 1 where the scale-up took longer than the requirement allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10, help="machines to make")
    parser.add_argument("--empty-after-seconds", type=int, default=5, help="how long an empty machine is kept")
    parser.add_argument("--job-seconds", type=float, help="Jobs end after so long; absent: they are cancelled")
    options = parser.parse_args()
    kind: NodeKind = "hollow" if options.job_seconds is None else "bare"
    program = ensure_karpenter(_say)
    estate = scaling_estate([MACHINE], MACHINE.gpu_count * options.nodes, options.empty_after_seconds)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            lab = lab_cluster.up("bench", (), root, _say)
            with karpenter(lab, program, [MACHINE], kind=kind) as adopter:
                apply_platform(lab, estate)
                up = _up(lab, adopter, options.nodes, options.job_seconds)
                _say(f"up: {up}")
                types = {node["metadata"]["labels"]["karpenter.sh/capacity-type"] for node in adopter.nodes().values()}
                if options.job_seconds is not None:
                    _wait_until_all_ended(lab)
                down = _down(lab, adopter, options.nodes)
        finally:
            lab_cluster.down("bench", root)
    result = {
        "benchmark": "karpenter_scale",
        "karpenter": KARPENTER_VERSION,
        "nodes_count": options.nodes,
        "nodes_kind": kind,
        "job_seconds": options.job_seconds,
        "capacity_types": sorted(types),
        "up": up,
        "empty_after_seconds": options.empty_after_seconds,
        "down": down,
        "compared_with": {"wanted_scale_up_seconds": WANTED_SCALE_UP_SECONDS},
        "without": "the boot of a real machine",
    }
    print(json.dumps(result))
    return 0 if up["last_node_ready_seconds"] < WANTED_SCALE_UP_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
