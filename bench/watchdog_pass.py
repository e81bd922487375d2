"""CPU time of one watchdog pass: 100 GPU nodes, 1,000 tenant pods; one JSON line.

Two parts, since both are paid each interval: reading what the exporters served (Prometheus text,
by prometheus_client's own parser, into GpuSample) and `decide`. Run: python -m bench.watchdog_pass
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from helpers.domain.memory import BYTES_PER_MIB, bytes_to_mib_rounded_up, mib_to_bytes
from helpers.domain.telemetry import metric_names as m
from helpers.domain.watchdog.decisions import Recycle
from helpers.domain.watchdog.facts import ActRecord, ContainerUse, GpuSample, PodFacts
from helpers.domain.watchdog.recycling import decide
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings

NOW = datetime(2026, 6, 2, 8, 0, tzinfo=UTC)
NODES_COUNT = 100
PODS_PER_NODE = 10
TENANTS_COUNT = 100
TARGET_MS = 200.0


def build_settings() -> WatchdogSettings:
    """100 tenants of ten pods each."""
    rules = tuple(
        TenantRule(
            name=f"tenant-{i}",
            namespace="ns",
            kind="Deployment",
            workload=f"tenant-{i}",
            container="main",
            budget_mib=1000,
        )
        for i in range(TENANTS_COUNT)
    )
    return WatchdogSettings(floor_mib=1536, dry_run=False, recycles_per_hour=1000, tenants=rules)


def build_pods() -> tuple[PodFacts, ...]:
    """Ten pods on each node."""
    return tuple(
        PodFacts(
            namespace="ns",
            name=f"pod-{node}-{ordinal}",
            uid=f"uid-{node}-{ordinal}",
            node=f"node-{node}",
            tenant=f"tenant-{node}",
            budget_mib=1000,
            owner_kind="ReplicaSet",
            owner_name="rs",
            started_at=NOW - timedelta(days=1),
        )
        for node in range(NODES_COUNT)
        for ordinal in range(PODS_PER_NODE)
    )


def build_history() -> tuple[ActRecord, ...]:
    """An hour with two hundred acts, the cap's window at its fullest."""
    return tuple(
        ActRecord(f"tenant-{i % TENANTS_COUNT}", "ns", f"gone-{i}", f"gone-{i}", f"node-{i % NODES_COUNT}", "none",
                  NOW - timedelta(seconds=1000 + i), NOW - timedelta(seconds=990 + i), dry_run=False)
        for i in range(200)
    )  # fmt: skip


def exposition(node: int, *, pressured: bool) -> str:
    """What the exporter of one node serves: a card, its sensors, ten containers."""
    where = f'gpu="0",uuid="GPU-{node}"'
    used = [1400 if pressured and ordinal == 3 else 900 for ordinal in range(PODS_PER_NODE)]
    free_mib = 900 if pressured else 5000
    total_mib = sum(used) + free_mib + 450
    lines = [
        f"{m.TOTAL}{{{where}}} {mib_to_bytes(total_mib)}",
        f"{m.USED}{{{where}}} {mib_to_bytes(sum(used))}",
        f"{m.FREE}{{{where}}} {mib_to_bytes(free_mib)}",
        f"{m.RESERVED}{{{where}}} {mib_to_bytes(450)}",
        f"{m.UNATTRIBUTED}{{{where}}} 0",
        f"{m.SAMPLE_UP}{{{where}}} 1",
        f"{m.SAMPLE_TIMESTAMP}{{{where}}} {NOW.timestamp() - 2}",
    ]
    lines += [
        f'{m.POD_USED}{{namespace="ns",pod="pod-{node}-{ordinal}",container="main",{where}}} {mib_to_bytes(mib)}'
        for ordinal, mib in enumerate(used)
    ]
    return "\n".join(lines) + "\n"


def read_sample(node: int, text: str) -> GpuSample:
    """One exporter's answer as facts."""
    figures: dict[str, float] = {}
    rows: list[ContainerUse] = []
    labels: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        for row in family.samples:
            labels = row.labels
            if row.name == m.POD_USED:
                used_mib = bytes_to_mib_rounded_up(int(row.value))
                rows.append(ContainerUse(labels["namespace"], labels["pod"], labels["container"], used_mib))
            else:
                figures[row.name] = row.value
    return GpuSample(
        node=f"node-{node}",
        gpu=labels["gpu"],
        uuid=labels["uuid"],
        sampled_at=datetime.fromtimestamp(figures[m.SAMPLE_TIMESTAMP], tz=UTC),
        ok=figures[m.SAMPLE_UP] == 1,
        total_mib=bytes_to_mib_rounded_up(int(figures[m.TOTAL])),
        used_mib=bytes_to_mib_rounded_up(int(figures[m.USED])),
        free_mib=int(figures[m.FREE]) // BYTES_PER_MIB,
        pods=tuple(rows),
        unattributed_mib=bytes_to_mib_rounded_up(int(figures[m.UNATTRIBUTED])),
    )


def cpu_ms(work: Callable[[], object], runs_count: int) -> list[float]:
    """CPU milliseconds of each run, ascending."""
    found = []
    for _ in range(runs_count):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1000)
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs_count = parser.parse_args(arguments).runs
    settings, pods, history = build_settings(), build_pods(), build_history()
    texts = [exposition(node, pressured=node % 10 == 0) for node in range(NODES_COUNT)]
    samples = [read_sample(node, text) for node, text in enumerate(texts)]
    recycles = sum(isinstance(d, Recycle) for d in decide(settings, samples, pods, history, NOW))
    deciding = cpu_ms(lambda: decide(settings, samples, pods, history, NOW), runs_count)
    reading = cpu_ms(lambda: [read_sample(node, text) for node, text in enumerate(texts)], runs_count)
    worst_ms = deciding[-1] + reading[-1]
    figures = {
        "benchmark": "watchdog_pass",
        "nodes": NODES_COUNT,
        "pods": len(pods),
        "recycles": recycles,
        "decide_cpu_ms_median": round(statistics.median(deciding), 2),
        "decide_cpu_ms_max": round(deciding[-1], 2),
        "read_cpu_ms_median": round(statistics.median(reading), 2),
        "read_cpu_ms_max": round(reading[-1], 2),
        "pass_cpu_ms_max": round(worst_ms, 2),
        "compared_with": {"target_ms": TARGET_MS},
        "met": worst_ms < TARGET_MS and recycles == NODES_COUNT // 10,
    }
    print(json.dumps(figures, sort_keys=True))
    return 0 if figures["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
