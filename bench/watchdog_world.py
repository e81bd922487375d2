"""100 nodes with a card each and 1,000 tenant pods, as the API and the exporters show them."""

from __future__ import annotations

from typing import Any

from helpers.domain.memory import mib_to_bytes
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings

EXPORTERS_COUNT, PODS_PER_NODE = 100, 10
_USED_MIB = 1100
_CARD_MIB, _RESERVED_MIB = 15360, 450


def settings() -> WatchdogSettings:
    """100 tenants of ten pods; dry run, so that a figure is never one of acts."""
    rules = tuple(
        TenantRule(
            name=f"tenant-{i}", namespace=f"ns-{i}", kind="Deployment", workload="w", container="main", budget_mib=1000
        )
        for i in range(EXPORTERS_COUNT)
    )
    return WatchdogSettings(floor_mib=1536, dry_run=True, tenants=rules)


def exporter_text(node: int, now_seconds: float) -> str:
    """What the exporter of one node serves: its card, ten pods with budgets, its sensors."""
    card = f'gpu="0",uuid="GPU-{node}"'
    used_mib = _USED_MIB * PODS_PER_NODE
    rows = [
        f"gpu_memory_total_bytes{{{card}}} {mib_to_bytes(_CARD_MIB)}",
        f"gpu_memory_used_bytes{{{card}}} {mib_to_bytes(used_mib)}",
        f"gpu_memory_free_bytes{{{card}}} {mib_to_bytes(_CARD_MIB - _RESERVED_MIB - used_mib)}",
        f"gpu_memory_reserved_bytes{{{card}}} {mib_to_bytes(_RESERVED_MIB)}",
        f"gpu_memory_unattributed_bytes{{{card}}} 0",
        f"gpu_sample_up{{{card}}} 1",
        f"gpu_attribution_up{{{card}}} 1",
        f"gpu_sample_timestamp_seconds{{{card}}} {now_seconds}",
        f"gpu_temperature_celsius{{{card}}} 61.0",
        f"gpu_power_watts{{{card}}} 55.5",
    ]
    for i in range(PODS_PER_NODE):
        who = f'namespace="ns-{node}",pod="w-5d9c8b7f6-p{node:03}{i}",container="main"'
        rows.append(f"gpu_pod_memory_used_bytes{{{who},{card}}} {mib_to_bytes(_USED_MIB)}")
        rows.append(f"gpumem_tenant_budget_bytes{{{who}}} {mib_to_bytes(1000)}")
    return "# HELP gpu_memory_total_bytes x\n" + "\n".join(rows) + "\n"


def pod_object(node: int, ordinal: int) -> dict[str, Any]:
    """A Pod as large as real ones are: about 8 KiB with its managed fields, volumes and environment."""
    name = f"w-5d9c8b7f6-p{node:03}{ordinal}"
    amounts = {"viktorbarzin.me/gpumem": "1k", "nvidia.com/gpu": "1", "cpu": "500m", "memory": "2Gi"}
    variables = [{"name": f"SETTING_{i}", "value": f"some value of setting {i} {name}"} for i in range(30)]
    fields: dict[str, Any] = {
        f"f:field-{i}": {f'k:{{"name":"SETTING_{i}"}}': {".": {}, "f:value": {}}} for i in range(40)
    }
    return {
        "metadata": {
            "name": name,
            "namespace": f"ns-{node}",
            "uid": f"uid-{node}-{ordinal}",
            "resourceVersion": str(1000 + node * PODS_PER_NODE + ordinal),
            "labels": {"app": "w", "pod-template-hash": "5d9c8b7f6"},
            "annotations": {"kubectl.kubernetes.io/restartedAt": "2026-06-01T00:00:00Z"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "w-5d9c8b7f6", "controller": True, "uid": "x"}],
            "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": fields}],
        },
        "spec": {
            "nodeName": f"node-{node}",
            "containers": [
                {
                    "name": "main",
                    "image": "x:1",
                    "env": variables,
                    "resources": {"limits": amounts, "requests": amounts},
                }
            ],
            "volumes": [{"name": f"volume-{i}", "configMap": {"name": f"map-{i}"}} for i in range(8)],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "startTime": "2026-06-01T00:00:00Z",
            "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "Initialized", "PodScheduled")],
        },
    }
