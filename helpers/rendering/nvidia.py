"""Wave 0: what makes a node show its number and keeps it there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from helpers.domain import names
from helpers.domain.capacity import capacity_settings
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedObject, Step, address_of
from helpers.rendering.templates import render_template

CAPACITY_RELEASE = "capacity-release"
CAPACITY_ASSERT = "capacity-assert"


def nvidia_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Namespace, RuntimeClass, the device plugin's configuration (and DaemonSets), the capacity helpers."""
    shared = {"estate": estate, "labels": names.MANAGED_BY}
    # Where the operator runs, it has a RuntimeClass of this name too, and must keep it.
    shared["retain_runtime_class"] = estate.device_plugin.managed_by == "gpu-operator"
    yield from render_template(0, "base/namespace.yaml.j2", **shared, pod_security=_pod_security(estate))
    yield from render_template(0, "base/runtime-class.yaml.j2", **shared)
    yield from _device_plugin(estate, shared)
    settings = capacity_settings(estate).to_json()
    capacity = {
        **shared,
        "service_account": names.CAPACITY_SERVICE_ACCOUNT,
        "config_map": names.CAPACITY_CONFIG_MAP,
        "config_key": names.CAPACITY_CONFIG_KEY,
        "lease": names.CAPACITY_LEASE,
        "settings_json": settings,
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
        "settings_folder": str(PurePosixPath(names.CAPACITY_CONFIG_PATH).parent),
        "settings_path": names.CAPACITY_CONFIG_PATH,
        "namespace_variable": names.ENV_NAMESPACE,
        "image": estate.image.reference(),
        "metrics_port": names.CAPACITY_METRICS_PORT,
        "assert_step": CAPACITY_ASSERT,
    }
    yield from render_template(0, "capacity/rbac.yaml.j2", **capacity)
    yield from render_template(0, "capacity/config.yaml.j2", **capacity)
    # Where every budget is a claim no node has a number to keep.
    if estate.number_nodes():
        yield from render_template(0, "capacity/cron-job.yaml.j2", **capacity)
        if estate.capacity.watch:
            yield from render_template(0, "capacity/watch.yaml.j2", **capacity)


def nvidia_steps(estate: Estate) -> tuple[Step, ...]:
    """The key is put on the nodes once the rights stand, and taken off once nothing writes it any more.

    Destroy runs backwards: CronJob, watch and their settings go first, so that nobody puts back what
    `capacity unset` takes away.
    """
    rights = ("capacity-cluster-role-binding", "capacity-role-binding", "capacity-events-role-binding")
    release = Step(
        wave=0,
        component="capacity",
        address=CAPACITY_RELEASE,
        arguments=("capacity", "unset"),
        triggers={"resource": estate.resource},
        on="destroy",
        after=rights,
    )
    advertise = Step(
        wave=0,
        component="capacity",
        address=CAPACITY_ASSERT,
        arguments=("capacity", "assert"),
        triggers={"capacity": capacity_settings(estate).to_json()},
        on="create",
        after=(CAPACITY_RELEASE,),
    )
    return (release, advertise)


def device_plugin_config(node: Node) -> dict[str, Any]:
    """The device plugin's own configuration (its v1 form) for nodes of this kind."""
    config: dict[str, Any] = {"version": "v1"}
    if node.sharing is not None:
        config["sharing"] = node.sharing.model_dump(mode="json")
    return config


def device_plugin_labels(estate: Estate) -> dict[str, str]:
    """`{node entry: label}`: what points a node to its entry where the operator runs the plugin."""
    return {node.name: f"{names.DEVICE_PLUGIN_CONFIG_LABEL}={node.name}" for node in estate.nodes}


def _pod_security(estate: Estate) -> dict[str, str]:
    """The namespace's own level, where the operator's pods live in it or Talos enforces one everywhere."""
    needed = estate.gpu_operator is not None or estate.talos is not None
    return {"pod-security.kubernetes.io/enforce": "privileged"} if needed else {}


def _device_plugin(estate: Estate, shared: dict[str, Any]) -> Iterator[RenderedObject]:
    configs = {node.name: to_yaml(device_plugin_config(node)) for node in estate.nodes}
    labels = json.dumps(device_plugin_labels(estate), sort_keys=True)
    yield from render_template(0, "device-plugin/config.yaml.j2", **shared, configs=configs, node_labels=labels)
    if estate.device_plugin.managed_by != "estate":
        return
    for node in estate.nodes:
        yield from render_template(
            0,
            "device-plugin/daemon-set.yaml.j2",
            **shared,
            address=address_of("device-plugin-node", node.name),
            name=f"nvidia-device-plugin-{node.name}",
            node=node,
            node_selector=node.node_selector(),
            tolerations=gpu_tolerations(node),
            config_sha256=hashlib.sha256(configs[node.name].encode()).hexdigest(),
        )


def gpu_tolerations(node: Node) -> list[dict[str, Any]]:
    """What the plugin and the exporter tolerate: they must be let in wherever the cards are."""
    usual = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    wanted = [dict(item) for item in node.tolerations]
    return wanted if usual in wanted else [*wanted, usual]
