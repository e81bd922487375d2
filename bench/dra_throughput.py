"""Pods bound per second with budgets as claims, beside the same pods with budgets by the node's number.

Brings up a lab of its own. Nodes are bare Node objects, so pods are bound and nothing runs; the slices are
written as the agent would write them, and no agent runs. Admission is on: every pod is created with the
plain number, and the tenant's policy in the API server sets its budget: the number again, or a reference to its
claim template, whose claims kube-controller-manager then makes. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from bench.machine import busy_seconds
from helpers.adapters.kubernetes_ import connect
from helpers.domain.dra.devices import Device
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice
from helpers.domain.estate.model import Estate
from helpers.domain.quantity import canonical_count
from helpers.rendering.render import render
from lab import cluster as lab_cluster
from lab.api import Api, ApiError
from lab.cluster import Lab
from lab.nodes import bare_node
from lab.state import LabNode

NAMESPACE, RESOURCE, LABEL = "throughput", "bench.test/gpumem", {"app": "load"}
CARD_MIB, BUDGET_MIB, CARDS_COUNT = 24000, 4000, 8
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{NAMESPACE}/resourceclaims"
BOUND_SECONDS = 1200.0
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: {RESOURCE}
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: pool
    selector: {{bench-pool: "true"}}
    min_nodes: 0
    gpus: [{{model: NVIDIA GeForce RTX 3090, count: {CARDS_COUNT}, physical_mib: 24576, reserve_mib: 576}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: 1536}}
admission: {{}}
tenants:
  - name: load
    namespace: {NAMESPACE}
    workload: {{kind: Deployment, name: load, container: main}}
    node: pool
    apply: admission
    pod_labels: {{app: load}}
    shares: 0
    budget_mib: {BUDGET_MIB}
    elastic: true
    class: batch
"""


def _estate(backend: str) -> Estate:
    return Estate.model_validate({**yaml.safe_load(ESTATE), "budget": {"backend": backend}})


def _make_nodes(lab: Lab, nodes_count: int) -> None:
    api, cluster = lab.api(), connect(lab.kubeconfig)
    amount = canonical_count(CARD_MIB * CARDS_COUNT)
    for index in range(nodes_count):
        name = f"bench-{index}"
        node = bare_node(LabNode(name, {"bench-pool": "true"}, {}, "bare"), 0)
        node["metadata"]["labels"].pop("lab.gpumem.io/bare")
        node["status"].pop("daemonEndpoints")
        for part in ("capacity", "allocatable"):
            node["status"][part] = {**node["status"][part], RESOURCE: amount}
        uid = api.post("/api/v1/nodes", node)["metadata"]["uid"]
        devices = [Device(f"gpu-{i}", f"GPU-{name}-{i}", "RTX 3090", i, CARD_MIB) for i in range(CARDS_COUNT)]
        cluster.apply(desired_slice(NodeIdentity(name, uid), devices, 1), field_manager="bench")


def _apply(lab: Lab, estate: Estate) -> None:
    """What admission and claims need of the rendering."""
    cluster = connect(lab.kubeconfig)
    for item in render(estate).objects:
        if item.component == "admission" or item.kind in ("DeviceClass", "ResourceClaimTemplate"):
            cluster.apply(item.manifest, field_manager="bench", force=True)
    time.sleep(5)  # A policy is in force once every API server has compiled it.


def _pod(name: str) -> dict[str, Any]:
    amounts = {RESOURCE: canonical_count(BUDGET_MIB)}
    container = {"name": "main", "image": "registry.example.com/x:1", "resources": {"limits": amounts}}
    return {
        "metadata": {"name": name, "labels": LABEL},
        "spec": {
            "automountServiceAccountToken": False,
            "nodeSelector": {"bench-pool": "true"},
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def _bind(api: Api, pods_count: int) -> dict[str, float]:
    """Creates the pods and waits until each has a node."""
    began, busy = time.monotonic(), busy_seconds()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: api.post(PODS, _pod(f"load-{index}")), range(pods_count)))
    created_seconds = time.monotonic() - began
    while api.get(PODS, fieldSelector="spec.nodeName=", limit="1")["items"]:
        if time.monotonic() - began > BOUND_SECONDS:
            raise SystemExit(f"pods are Pending still after {BOUND_SECONDS:.0f} s")
        time.sleep(0.2)
    seconds = time.monotonic() - began
    return {
        "created_seconds": round(created_seconds, 1),
        "bound_seconds": round(seconds, 1),
        "pods_per_second": round(pods_count / seconds, 1),
        "machine_busy_seconds": round(busy_seconds() - busy, 1),
    }


def _highest_card_mib(api: Api) -> int:
    """What the fullest card has, by its claims."""
    taken: dict[tuple[str, str], int] = {}
    for claim in api.get(CLAIMS)["items"]:
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ()):
            key = (result["pool"], result["device"])
            taken[key] = taken.get(key, 0) + int(result["consumedCapacity"]["memory"].removesuffix("Mi"))
    return max(taken.values(), default=0)


def _remove_pods(api: Api) -> None:
    while api.get(PODS, limit="1")["items"] or api.get(CLAIMS, limit="1")["items"]:
        # One call for all of them, which outlasts the client's patience: it goes on at the server.
        with contextlib.suppress(ApiError):
            api.delete(PODS, {"gracePeriodSeconds": 0})
        time.sleep(0.5)


def main() -> int:
    """Both backends on one lab, the number first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--pods", type=int, default=5000)
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lab = lab_cluster.up("bench", [], root, lambda text: print(text, file=sys.stderr))
        try:
            api = lab.api()
            api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            _make_nodes(lab, arguments.nodes)
            highest_mib = 0
            for backend in ("extendedResource", "dra"):
                _apply(lab, _estate(backend))
                figures[backend] = _bind(api, arguments.pods)
                print(backend, figures[backend], file=sys.stderr)
                highest_mib = max(highest_mib, _highest_card_mib(api))
                _remove_pods(api)
        finally:
            lab_cluster.down("bench", root)
    ratio = figures["dra"]["pods_per_second"] / figures["extendedResource"]["pods_per_second"]
    line = {
        "bench": "dra_throughput",
        "nodes": arguments.nodes,
        "cards_per_node": CARDS_COUNT,
        "pods": arguments.pods,
        **figures,
        "dra_to_number_ratio": round(ratio, 3),
        "fullest_card_mib": highest_mib,
        "card_mib": CARD_MIB,
        "load_average": [round(each, 1) for each in os.getloadavg()],
        "agents": "none: slices written by the benchmark",
    }
    print(json.dumps(line))
    return 0 if highest_mib <= CARD_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
