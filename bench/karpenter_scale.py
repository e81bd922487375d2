"""From no GPU node to ten and back, by the real Karpenter, driven by the manager's queue.

Brings up a lab of its own without a node, Karpenter with its kwok provider, the node pool as the rendering
makes it, and a manager with the native engine. Every job takes a whole machine, and may be interrupted: it is
submitted, held, let go as soon as the pool may grow, and then its pod waits (with --plain-jobs: Jobs that
nobody holds). Hollow kubelets (or, with --job-seconds, pod life, on which Jobs end by themselves) adopt the
Node objects, so a node's own boot (minutes in a cloud) is not in the figures: they show what queue, Karpenter,
scheduler and kubelet add.
Prints one JSON line. Compared with: the five minutes that the field's own requirement gives a scale-up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.apps.manager import manager_log
from helpers.domain.estate.model import Estate
from lab import cluster as lab_cluster
from lab.cluster import Lab
from lab.jobs import LabManager, apply_job_platform, lab_manager, settings_of
from lab.karpenter import GPU, KARPENTER_VERSION, Adopter, Machine, ensure_karpenter, karpenter
from lab.scaling import (
    PROJECT,
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


class PlainJobs:
    """Jobs whose pods wait at once."""

    def __init__(self, lab: Lab, nodes_count: int, job_seconds: float | None) -> None:
        wanted = {GPU: str(MACHINE.gpu_count)}
        self._api = lab.api()
        self._jobs = [gpu_job(f"scale-{index}", wanted, job_seconds) for index in range(nodes_count)]

    def submit(self) -> None:
        """All of them."""
        create_jobs(self._api, self._jobs)

    def turn(self) -> None:
        """Nobody looks after them."""

    def cancel(self) -> None:
        """Those that are there."""
        delete_jobs(self._api, self._jobs)


class QueuedJobs:
    """Jobs of a manager in this process, which turns whenever it is looked at."""

    def __init__(self, manager: LabManager, nodes_count: int, job_seconds: float | None) -> None:
        self._manager = manager
        self._asked: dict[str, Any] = {
            "gpu": "T4",
            "memory_gb": None,
            "gpus": MACHINE.gpu_count,
            "seconds": job_seconds,
        }
        self._asked |= {"preemptible": True}
        self._nodes_count = nodes_count

    def submit(self) -> None:
        """All of them."""
        for _ in range(self._nodes_count):
            self._manager.submit(project=PROJECT, **self._asked)

    def turn(self) -> None:
        """One of the leader's."""
        self._manager.loop.turn()

    def cancel(self) -> None:
        """Those that are not over."""
        for job in self._manager.store.unfinished():
            self._manager.desk.cancel(job.job_id, "bench")


Jobs = PlainJobs | QueuedJobs


def _up(lab: Lab, adopter: Adopter, nodes_count: int, jobs: Jobs) -> dict[str, float]:
    """Submits the jobs; seconds until the first and last node object, ready node and running pod."""
    api, began = lab.api(), time.monotonic()
    jobs.submit()
    seen: dict[str, float] = {}
    while len(seen) < 6:
        jobs.turn()
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


def _wait_until_all_ended(lab: Lab, jobs: Jobs) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while running_pods(lab.api()):
        jobs.turn()
        if time.monotonic() > deadline:
            raise SystemExit(f"jobs run still after {BOUND_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _down(adopter: Adopter, nodes_count: int, jobs: Jobs) -> dict[str, float]:
    """Cancels the jobs that have not ended; seconds from then until the first and the last machine is gone."""
    jobs.cancel()
    began = time.monotonic()
    seen: dict[str, float] = {}
    while "last_node_gone_seconds" not in seen:
        jobs.turn()
        now, left = time.monotonic() - began, len(adopter.nodes())
        if now > BOUND_SECONDS:
            raise SystemExit(f"{left} nodes are left after {BOUND_SECONDS:.0f} s")
        if left < nodes_count:
            seen.setdefault("first_node_gone_seconds", round(now, 2))
        if left == 0:
            seen["last_node_gone_seconds"] = round(now, 2)
        time.sleep(POLL_SECONDS)
    return seen


@contextlib.contextmanager
def _jobs(lab: Lab, estate: Estate, root: Path, options: argparse.Namespace) -> Iterator[Jobs]:
    if options.plain_jobs:
        yield PlainJobs(lab, options.nodes, options.job_seconds)
        return
    with lab_manager(lab, settings_of(estate), f"sqlite:///{root}/jobs.db", manager_log()) as manager:
        yield QueuedJobs(manager, options.nodes, options.job_seconds)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> int:
    """Measures and prints; exit 1 where the scale-up took longer than the requirement allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10, help="machines to make")
    parser.add_argument("--empty-after-seconds", type=int, default=5, help="how long an empty machine is kept")
    parser.add_argument("--job-seconds", type=float, help="Jobs end after so long; absent: they are cancelled")
    parser.add_argument("--plain-jobs", action="store_true", help="without the manager: nobody holds the Jobs")
    options = parser.parse_args()
    kind: NodeKind = "hollow" if options.job_seconds is None else "bare"
    program = ensure_karpenter(_say)
    estate = scaling_estate([MACHINE], MACHINE.gpu_count * options.nodes, options.empty_after_seconds)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            lab = lab_cluster.up("bench", (), root, _say)
            with karpenter(lab, program, [MACHINE], kind=kind) as adopter:
                apply_job_platform(lab, estate)
                apply_platform(lab, estate)
                with _jobs(lab, estate, root, options) as jobs:
                    up = _up(lab, adopter, options.nodes, jobs)
                    _say(f"up: {up}")
                    nodes = adopter.nodes().values()
                    types = {node["metadata"]["labels"]["karpenter.sh/capacity-type"] for node in nodes}
                    if options.job_seconds is not None:
                        _wait_until_all_ended(lab, jobs)
                    down = _down(adopter, options.nodes, jobs)
        finally:
            lab_cluster.down("bench", root)
    result = {
        "benchmark": "karpenter_scale",
        "karpenter": KARPENTER_VERSION,
        "nodes_count": options.nodes,
        "nodes_kind": kind,
        "driven_by": "plain Jobs" if options.plain_jobs else "the manager's queue",
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
