"""How long validate, render and synth take at scale, next to the prebuilt Kubernetes bindings.

Prints one JSON line. For the comparison both sides synthesise the same Deployments and ConfigMaps,
each in a process of its own with its imports counted:

- generic: `kubectl_manifest` through `stacks.constructs.manifest`, as the stacks do it;
- typed: `DeploymentV1` and `ConfigMapV1` of `cdktf-cdktf-provider-kubernetes`, field by field.

    python -m bench.synth [--tenants 1000] [--nodes 200] [--objects 200]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render

ROOT = Path(__file__).resolve().parents[1]
TARGET_SECONDS = 15.0


def main() -> int:
    """Measure and print; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--objects", type=int, default=200, help="Deployments for the comparison of bindings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpumem-bench-") as name:
        folder = Path(name)
        estate_file = folder / "gpumem.yaml"
        estate_file.write_text(yaml.safe_dump(generated_estate(arguments.tenants, arguments.nodes), sort_keys=False))
        figures = measure(estate_file, folder / "out")
        comparison = compare(arguments.objects, folder)
    print(
        json.dumps(
            {
                "bench": "synth",
                "tenants": arguments.tenants,
                "nodes": arguments.nodes,
                "python": platform.python_version(),
                **figures,
                "target_seconds": TARGET_SECONDS,
                **comparison,
            }
        )
    )
    return 0 if figures["total_seconds"] < TARGET_SECONDS else 1


def generated_estate(tenants: int, nodes: int) -> dict[str, Any]:
    """`nodes` machines in pools of ten, five tenants on each machine's two cards; a third is foreign."""
    pools = max(1, nodes // 10)
    return {
        "version": 1,
        "kubernetes": {"version": "1.36"},
        "resource": "example.com/gpumem",
        "image": {"repository": "registry.example.com/gpumem", "tag": "0.1.0"},
        "device_plugin": {"managed_by": "gpu-operator"},
        "nodes": [_pool(index, -(-nodes // pools)) for index in range(pools)],
        "watchdog": {"floor_mib": 1536},
        "priority_classes": [{"name": "gpu-realtime", "value": 100000}, {"name": "gpu-batch", "value": 1000}],
        "tenants": [_tenant(index, index % pools) for index in range(tenants)],
    }


def _pool(index: int, machines: int) -> dict[str, Any]:
    return {
        "name": f"pool-{index}",
        "selector": {"example.com/pool": f"pool-{index}"},
        "min_nodes": machines,
        "gpus": [{"model": "NVIDIA A10G", "count": 2, "physical_mib": 23028, "reserve_mib": 1028}],
        "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 8}]}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }


def _tenant(index: int, pool: int) -> dict[str, Any]:
    name = f"tenant-{index}"
    foreign = index % 3 == 0
    tenant: dict[str, Any] = {
        "name": name,
        "namespace": f"team-{index % 50}",
        "workload": {"kind": "Deployment", "name": name, "container": "main"},
        "node": f"pool-{pool}",
        "apply": "patch" if foreign else "create",
        "budget_mib": 4000 + (index % 7) * 500,
        "class": "realtime" if index % 2 else "batch",
        "priority": "gpu-realtime" if index % 2 else "gpu-batch",
    }
    if foreign:
        return {**tenant, "strategy": {"type": "Recreate"}}
    return {**tenant, "pod": _pod(index)}


def _pod(index: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": f"registry.example.com/model-{index % 20}:1.{index}.0",
        "args": ["--port", "8080", "--model", f"/models/{index}"],
        "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "TEAM", "value": f"team-{index % 50}"}],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "500m", "memory": "2048Mi"}, "limits": {"memory": "4Gi"}},
    }
    return {"containers": [container]}


def measure(estate_file: Path, outdir: Path) -> dict[str, float]:
    """Seconds of each stage, in this process; synth includes starting cdktf's Node runtime."""
    start = time.perf_counter()
    estate, _ = load_estate(estate_file)
    validated = time.perf_counter()
    rendered = render(estate)
    done = time.perf_counter()
    from stacks.app import synthesize  # noqa: PLC0415 - importing cdktf is part of what is measured

    synthesize(estate, rendered, estate_file, outdir)
    end = time.perf_counter()
    return {
        "validate_seconds": round(validated - start, 2),
        "render_seconds": round(done - validated, 2),
        "synth_seconds": round(end - done, 2),
        "total_seconds": round(end - start, 2),
        "objects_count": len(rendered.objects),
        "steps_count": len(rendered.steps),
    }


def compare(objects: int, folder: Path) -> dict[str, Any]:
    """The same Deployments and ConfigMaps through the generic resource and through typed bindings."""
    seconds: dict[str, float] = {}
    for side in ("generic", "typed"):
        command = [sys.executable, "-m", "bench.synth_side", side, str(objects), str(folder / side)]
        start = time.perf_counter()
        outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        seconds[side] = time.perf_counter() - start
        if outcome.returncode != 0:
            last = (outcome.stderr.strip().splitlines() or ["no message"])[-1]
            return {"ratio": None, "compared": f"not compared: {side}: {last}"}
    return {
        "generic_seconds": round(seconds["generic"], 2),
        "typed_seconds": round(seconds["typed"], 2),
        "ratio": round(seconds["typed"] / seconds["generic"], 2),
        "compared": f"{objects} Deployments and {objects} ConfigMaps, one process each, imports counted: "
        "TerraformResource with a kubectl_manifest body against cdktf-cdktf-provider-kubernetes 12.1.1",
    }


if __name__ == "__main__":
    sys.exit(main())
