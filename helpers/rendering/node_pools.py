"""Karpenter's objects: node classes, node pools, and what a pool's machines will advertise in MiB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.model import Estate
from helpers.domain.estate.node_pools import NodeClass, NodePool, duration_text
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE, Node
from helpers.domain.quantity import canonical_count
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template


def node_pool_objects(estate: Estate, manager: Manager, labels: Mapping[str, str]) -> Iterator[RenderedObject]:
    """Classes first, then the pools that name them."""
    classes = {item.name: item for item in manager.node_classes}
    yield from render_template(
        2,
        "karpenter/node-classes.yaml.j2",
        labels=labels,
        classes=[(address_of("node-class", name), item) for name, item in classes.items()],
    )
    yield from render_template(
        2,
        "karpenter/node-pools.yaml.j2",
        labels=labels,
        pools=[_pool(pool, classes[pool.node_class], _plugin_label(estate, pool)) for pool in manager.node_pools],
    )
    yield from render_template(
        2,
        "karpenter/node-overlays.yaml.j2",
        labels=labels,
        pool_label=names.NODE_POOL_LABEL,
        overlays=list(_overlays(estate, manager)) if manager.node_overlays else [],
    )


def _plugin_label(estate: Estate, pool: NodePool) -> dict[str, str]:
    """What points the pool's machines to their sharing from their first minute, where the operator runs the plugin."""
    entries = [node for node in estate.nodes if (node.selector or {}).get(names.NODE_POOL_LABEL) == pool.name]
    if estate.device_plugin.managed_by != "gpu-operator" or len(entries) != 1:
        return {}
    return {names.DEVICE_PLUGIN_CONFIG_LABEL: entries[0].name}


def _pool(pool: NodePool, node_class: NodeClass, plugin_label: dict[str, str]) -> dict[str, Any]:
    wanted: dict[str, tuple[str, ...]] = {
        names.CAPACITY_TYPE_LABEL: pool.capacity_types,
        "node.kubernetes.io/instance-type": pool.instance_types,
        "kubernetes.io/arch": (pool.architecture,),
        "topology.kubernetes.io/zone": pool.zones,
    }
    expire = pool.expire_after_seconds
    return {
        "address": address_of("node-pool", pool.name),
        "after": [address_of("node-class", pool.node_class)],
        "name": pool.name,
        "labels": plugin_label | pool.labels | ({names.MIG_CONFIG_LABEL: pool.mig_config} if pool.mig_config else {}),
        "requirements": [{"key": key, "operator": "In", "values": list(v)} for key, v in wanted.items() if v],
        "node_class": {"group": node_class.group, "kind": node_class.kind, "name": node_class.name},
        "taints": [taint.model_dump(mode="json", exclude_defaults=True) for taint in pool.taints],
        "expire_after": "Never" if expire is None else duration_text(expire),
        "consolidate_after": duration_text(pool.empty_after_seconds),
        "gpu_limit": canonical_count(pool.gpu_limit_count),
        "weight": pool.weight,
    }


def _overlays(estate: Estate, manager: Manager) -> Iterator[dict[str, Any]]:
    """One for each entry under `nodes` whose machines a pool makes."""
    pools = {pool.name for pool in manager.node_pools}
    for node in estate.nodes:
        pool = (node.selector or {}).get(names.NODE_POOL_LABEL)
        if pool in pools:
            yield {
                "address": address_of("node-overlay", node.name),
                "after": [address_of("node-pool", pool)],
                "name": f"gpumem-{node.name}",
                "pool": pool,
                "capacity": _capacity(estate, node),
            }


def _capacity(estate: Estate, node: Node) -> dict[str, str]:
    shared = {name: node.shares_count() for name in node.shared_resources() if name != WHOLE_GPU_RESOURCE}
    counts = {estate.resource: node.advertised_mib} | shared
    return {name: canonical_count(count) for name, count in counts.items()}
