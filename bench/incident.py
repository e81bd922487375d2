"""The incident of 2026-06-02 on the lab, again and again: from threshold crossed to memory free.

A tenant of a T4 grows from 2 to 10.7 GiB at a moment that has nothing to do with the watchdog's
rhythm; the clock starts when the card falls under its floor and stops when its memory is back. The
pod ends as soon as it is asked to, so its grace period is not in the figure. Real API server, the
watchdog as a process with exactly its own rights, default settings but for the cool-down and caps
(otherwise it would rightly refuse a second run for five minutes). The pods' life and the exporter's
device are the lab's. One JSON line; run: python -m bench.incident
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from lab import cluster
from lab.incident import FLOOR_MIB, NODE_NAME, TENANTS, Tenants, grant, t4_node, wait_free, watchdog
from lab.small_exporter import lab_exporter
from lab.waiting import wait_for

RUNS_COUNT = 20
TARGET_P95_SECONDS = 8.0


def main() -> None:
    """Prints the line; exits 1 where the target is missed or a tenant within its budget was touched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS_COUNT)
    runs_count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        lab = cluster.up("incident", [t4_node()], folder)
        try:
            seconds, others_touched = measure(Tenants(lab, "incident"), folder, runs_count)
        finally:
            cluster.down("incident", folder)
    p95_seconds = percentile(seconds, 0.95)
    figures = {
        "bench": "incident",
        "runs": len(seconds),
        "p50_seconds": round(statistics.median(seconds), 2),
        "p95_seconds": round(p95_seconds, 2),
        "max_seconds": round(max(seconds), 2),
        "target_p95_seconds": TARGET_P95_SECONDS,
        "tenants_in_budget_touched": others_touched,
        "interval_seconds": 5.0,
        "floor_mib": FLOOR_MIB,
        "compared_with": "the first reference's loop of 60 s and exporter of 15 s; KAI's one-GPU reclaim 13.9 s",
    }
    print(json.dumps(figures))
    raise SystemExit(int(p95_seconds > TARGET_P95_SECONDS or others_touched > 0))


def measure(tenants: Tenants, folder: Path, runs_count: int) -> tuple[list[float], int]:
    """Seconds of each run, and how many pods of tenants within their budgets were touched."""
    tenants.create()
    settings = tenants.settings(cooldown_seconds=0, recycles_per_hour=10_000, recycles_per_hour_tenant=1000)
    seconds: list[float] = []
    touched = 0
    with (
        lab_exporter(NODE_NAME, tenants.lab.read_usage) as exporter,
        watchdog(folder, grant(tenants.lab), settings, [exporter.target]),
    ):
        for _ in range(runs_count):
            before = wait_for(lambda: seen if len(seen := tenants.running()) == len(TENANTS) else {})
            # A phase of its own: two intervals at least, so that the rhythm is the slow one again.
            time.sleep(10 + random.uniform(0, 5))  # noqa: S311 - no secret
            crossed = time.monotonic()
            tenants.grow()
            seconds.append(wait_free(tenants) - crossed)
            after = wait_for(lambda: seen if len(seen := tenants.running()) == len(TENANTS) else {})
            touched += sum(before[tenant] != after[tenant] for tenant in TENANTS if tenant != "immich-ml")
            if before["immich-ml"] == after["immich-ml"]:
                raise SystemExit("the memory is free, and the tenant's pod is the same: that was no recycle")
    return seconds, touched


def percentile(values: list[float], ratio: float) -> float:
    """The value that `ratio` of all stay at or below (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(ratio * 100) * len(ordered) // 100) - 1))]


if __name__ == "__main__":
    main()
