"""What the `gpu_operator` block and the rest of the estate must agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.estate.gpu_operator import GpuOperator
from helpers.domain.estate.model import Estate
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.texts import version_numbers

# The first chart whose dcgm-exporter (4.5.3-4.8.2) has a pod's own FB_USED under time-slicing.
FIRST_CHART_WITH_PODS_OWN_MEMORY = (26, 3, 2)
DCGM_PORT = 9400
Path = tuple[str, ...]
# Paths of the chart's values that the rendering writes, and the estate's key that decides each.
ALWAYS_DECIDED: Mapping[Path, str] = {
    ("driver", "enabled"): "gpu_operator.driver",
    ("toolkit", "enabled"): "gpu_operator.toolkit",
    ("operator", "runtimeClass"): "runtime_class.name",
    ("daemonsets", "tolerations"): "nodes[].tolerations",
    ("node-feature-discovery", "worker", "tolerations"): "nodes[].tolerations",
    ("devicePlugin", "config"): "nodes[].sharing and device_plugin.config_map",
    ("dcgmExporter", "enabled"): "gpu_operator.dcgm_exporter",
    ("dcgmExporter", "serviceMonitor", "enabled"): "monitoring",
}
DECIDED_ON_TALOS: Mapping[Path, str] = {("hostPaths", "driverInstallDir"): "talos"}
DECIDED_WITH_MIG: Mapping[Path, str] = {("mig", "strategy"): "manager.mig", ("migManager", "config"): "manager.mig"}
DECIDED_WITH_DCGM: Mapping[Path, str] = {
    ("dcgmExporter", "env"): "exporter",
    ("dcgmExporter", "hostPID"): "exporter.source",
    ("dcgmExporter", "hostNetwork"): "exporter.source",
}


def gpu_operator_problems(estate: Estate) -> Iterator[Problem]:
    """All problems; none where there is no `gpu_operator` block."""
    operator = estate.gpu_operator
    if operator is None:
        return
    yield from _one_plugin(estate)
    yield from _default_node(estate, operator)
    yield from _sharing_reaches_machines(estate, operator)
    yield from _talos_brings_the_driver(estate, operator)
    yield from _dcgm(estate, operator)
    yield from _values(estate, operator)


def _one_plugin(estate: Estate) -> Iterator[Problem]:
    if estate.device_plugin.managed_by != "gpu-operator":
        yield Problem(
            "device_plugin.managed_by",
            estate.device_plugin.managed_by,
            "the operator runs the device plugin; a second one on the same node would offer the same cards again",
            "set managed_by: gpu-operator, or remove the block gpu_operator",
        )


def _default_node(estate: Estate, operator: GpuOperator) -> Iterator[Problem]:
    entries = [node.name for node in estate.nodes]
    if operator.default_node is not None and operator.default_node not in entries:
        rule = "default_node is the name of an entry under nodes"
        repair = did_you_mean(operator.default_node, entries)
        yield Problem("gpu_operator.default_node", operator.default_node, rule, repair)


def default_config(estate: Estate, operator: GpuOperator) -> str:
    """The entry for nodes without a label. Empty: those share nothing, rather than by somebody else's entry."""
    if operator.default_node is not None:
        return operator.default_node
    return estate.nodes[0].name if len(estate.nodes) == 1 else ""


def _sharing_reaches_machines(estate: Estate, operator: GpuOperator) -> Iterator[Problem]:
    """A node with neither label nor default offers each card as one share, and nothing says so."""
    labelled = {machine.node for machine in estate.talos.machines} if estate.talos is not None else set()
    pools = {pool.name for pool in estate.manager.node_pools} if estate.manager is not None else set()
    for index, node in enumerate(estate.nodes):
        by_karpenter = (node.selector or {}).get(names.NODE_POOL_LABEL) in pools
        reached = by_karpenter or node.name in (*labelled, default_config(estate, operator))
        if node.sharing is not None and not reached:
            label = f"{names.DEVICE_PLUGIN_CONFIG_LABEL}={node.name}"
            rule = f"the operator shares these cards only on nodes with the label {label}, and nothing here sets it"
            repair = f"label them, or set gpu_operator.default_node: {node.name}"
            yield Problem(f"nodes[{index}].sharing", "", rule, repair, severity="warning")


def _talos_brings_the_driver(estate: Estate, operator: GpuOperator) -> Iterator[Problem]:
    if estate.talos is None:
        return
    for key in ("driver", "toolkit"):
        if getattr(operator, key):
            rule = f"Talos's root is read-only, and its image has the {key} already; the operator cannot install one"
            yield Problem(f"gpu_operator.{key}", "true", rule, f"set {key}: false, or remove the key")


def _dcgm(estate: Estate, operator: GpuOperator) -> Iterator[Problem]:
    if estate.exporter.source != "dcgm":
        return
    if not operator.dcgm_exporter:
        rule = "exporter.source: dcgm reads the operator's dcgm-exporter"
        yield Problem("gpu_operator.dcgm_exporter", "false", rule, "set it true, or use exporter.source: nvml")
    if version_numbers(operator.chart_version) < FIRST_CHART_WITH_PODS_OWN_MEMORY:
        first = ".".join(str(part) for part in FIRST_CHART_WITH_PODS_OWN_MEMORY)
        rule = f"exporter.source: dcgm needs each pod's own memory, which this operator ships from v{first} on"
        repair = f"use chart_version: v{first} or newer, or exporter.source: nvml"
        yield Problem("gpu_operator.chart_version", operator.chart_version, rule, repair)
    if estate.exporter.dcgm_port != DCGM_PORT:
        rule = f"the operator's dcgm-exporter listens on {DCGM_PORT}, and its probes ask there"
        yield Problem("exporter.dcgm_port", str(estate.exporter.dcgm_port), rule, f"set dcgm_port: {DCGM_PORT}")


def _values(estate: Estate, operator: GpuOperator) -> Iterator[Problem]:
    for path, key in decided_values(estate):
        if _holds(operator.values, path):
            shown = ".".join(path)
            rule = f"{shown} follows from {key}"
            if path == ("devicePlugin", "config"):
                rule += "; the operator reads there the name of a ConfigMap and a default, and nothing else"
            yield Problem(f"gpu_operator.values.{shown}", "", rule, f"remove it, and say it under {key}")


def decided_values(estate: Estate) -> Iterator[tuple[Path, str]]:
    """What the rendering writes for this estate; the rest is the chart's, or `values`'."""
    yield from ALWAYS_DECIDED.items()
    if estate.talos is not None:
        yield from DECIDED_ON_TALOS.items()
    if estate.manager is not None and estate.manager.mig is not None:
        yield from DECIDED_WITH_MIG.items()
    if estate.exporter.source == "dcgm":
        yield from DECIDED_WITH_DCGM.items()


def _holds(values: Mapping[str, Any], path: Path) -> bool:
    """Whether `values` say anything at `path`, or something at its head that is no block."""
    found: Any = values
    for part in path:
        if not isinstance(found, Mapping):
            return True  # `driver: off` stands where a block belongs, and hides what we write below it
        if part not in found:
            return False
        found = found[part]
    return True
