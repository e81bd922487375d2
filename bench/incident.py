"""The incident of 2026-06-02 on the lab, again and again: from threshold crossed to memory free.

A tenant of a T4 grows from 2 to 10.7 GiB at a moment that has nothing to do with the watchdog's
rhythm; the clock starts when the card falls under its floor and stops when its memory is back. The
pod ends as soon as it is asked to, so its grace period is not in the figure. Real API server, the
watchdog as a process with exactly its own rights, default settings but for the cool-down and caps
(otherwise it would rightly refuse a second run for five minutes). The exporter is the program itself,
with its defaults and its own rights, on the lab's driver library and host-proc tree; the cards behind
them and the pods' life are the lab's. One JSON line; run: python -m bench.incident
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render
from lab import cluster
from lab.cluster import Lab
from lab.incident import (
    FLOOR_MIB,
    NODE_NAME,
    RESOURCE,
    TENANTS,
    WATCHDOG_NAMESPACE,
    Tenants,
    grant,
    t4_node,
    wait_free,
    watchdog,
)
from lab.telemetry import start_exporters
from lab.waiting import wait_for

RUNS_COUNT = 20
TARGET_P95_SECONDS = 8.0
# What the exporter is told by an estate: its resource, its namespace, and the card.
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: {RESOURCE}
namespace: {WATCHDOG_NAMESPACE}
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: t4
    selector: {{gpumem-test: {NODE_NAME}}}
    gpus: [{{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: {FLOOR_MIB}}}
tenants:
"""
TENANT = """
  - name: {name}
    namespace: incident
    workload: {{kind: Deployment, name: {name}, container: main}}
    node: t4
    apply: patch
    budget_mib: {budget_mib}
    class: realtime
    strategy: {{type: Recreate}}
"""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PATHS = {
    "exporter-service-account": f"/api/v1/namespaces/{WATCHDOG_NAMESPACE}/serviceaccounts",
    "exporter-cluster-role": f"{RBAC}/clusterroles",
    "exporter-cluster-role-binding": f"{RBAC}/clusterrolebindings",
}


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
    rights = grant(tenants.lab)
    with watchdog(folder, rights, settings, [exporter(tenants.lab, folder)]):
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


def exporter(lab: Lab, folder: Path) -> str:
    """Starts the exporter of the node; how a watchdog is told of it."""
    file = folder / "gpumem.yaml"
    tenants = [TENANT.format(name=name, budget_mib=budget_mib) for name, (budget_mib, _) in TENANTS.items()]
    file.write_text(ESTATE + "".join(tenants))
    estate, _ = load_estate(file)
    rights = [item for item in render(estate).objects if item.address in PATHS]
    for item in rights:
        lab.api().post(PATHS[item.address], dict(item.manifest))
    address = start_exporters(lab, estate, file, rhythm=()).exporters[NODE_NAME]
    return f"{NODE_NAME}=http://{address}"


def percentile(values: list[float], ratio: float) -> float:
    """The value that `ratio` of all stay at or below (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(ratio * 100) * len(ordered) // 100) - 1))]


if __name__ == "__main__":
    main()
