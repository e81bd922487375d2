"""The GPU Operator's Helm values, and ArgoCD's Application that installs it with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.estate.gpu_operator import GpuOperator
from helpers.domain.estate.gpu_operator_checks import default_config
from helpers.domain.estate.mig import ALL_DISABLED
from helpers.domain.estate.model import Estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.nvidia import gpu_tolerations
from helpers.rendering.objects import RenderedFile
from helpers.rendering.templates import render_document

FOLDER = "gpu-operator"
VALUES_FILE = "values.yaml"
APPLICATION_FILE = "application.yaml"
# Where Talos's extensions have put the driver's libraries and programs.
_TALOS_DRIVER_FOLDER = "/usr/local"
_HERE = "https://kubernetes.default.svc"


def gpu_operator_files(estate: Estate) -> Iterator[RenderedFile]:
    """Values for Helm and, with a chart repository, ArgoCD's Application; nothing without a `gpu_operator` block."""
    operator = estate.gpu_operator
    if operator is None:
        return
    head = f"# For NVIDIA's chart gpu-operator {operator.chart_version}, in namespace {estate.namespace}."
    yield RenderedFile(FOLDER, VALUES_FILE, f"{head}\n{to_yaml(gpu_operator_values(estate, operator))}")
    application = gpu_operator_application(estate)
    if application is not None:
        yield RenderedFile(FOLDER, APPLICATION_FILE, to_yaml(application))


def gpu_operator_values(estate: Estate, operator: GpuOperator) -> dict[str, Any]:
    """The chart's values: what follows from the estate, and beside it what `gpu_operator.values` says."""
    by_image = estate.talos is not None
    mig = estate.manager.mig if estate.manager is not None else None
    decided = render_document(
        "gpu-operator/values.yaml.j2",
        driver=not by_image if operator.driver is None else operator.driver,
        toolkit=not by_image if operator.toolkit is None else operator.toolkit,
        driver_folder=_TALOS_DRIVER_FOLDER if by_image else None,
        runtime_class=estate.runtime_class.name,
        tolerations=_tolerations(estate),
        config_map=estate.device_plugin.config_map,
        default_config=default_config(estate, operator),
        mig_config_map=mig.config_map if mig is not None else None,
        mig_default=ALL_DISABLED,
        dcgm_exporter=operator.dcgm_exporter,
        dcgm_environment=_dcgm_environment(estate),
    )
    return _merged(operator.values, decided)


def gpu_operator_application(
    estate: Estate,
    *,
    argocd_namespace: str = "argocd",
    project: str = "default",
    server: str = _HERE,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """ArgoCD's Application for the operator; None without a `gpu_operator` block that names the chart's repository.

    Args:
        estate: The estate.
        argocd_namespace: Where ArgoCD looks for Applications.
        project: ArgoCD's project; it must allow the chart's repository.
        server: The destination cluster's address as ArgoCD knows it.
        annotations: Such as the sync wave.
    """
    operator = estate.gpu_operator
    if operator is None or operator.chart_repository is None:
        return None
    return render_document(
        "gpu-operator/application.yaml.j2",
        labels={"app.kubernetes.io/managed-by": "gpumem"},
        argocd_namespace=argocd_namespace,
        annotations=dict(annotations or {}),
        project=project,
        chart_repository=operator.chart_repository,
        chart_version=operator.chart_version,
        values=gpu_operator_values(estate, operator),
        server=server,
        namespace=estate.namespace,
    )


def _tolerations(estate: Estate) -> list[dict[str, Any]]:
    """What the operator's pods tolerate, on whichever of the nodes they run."""
    wanted = [toleration for node in estate.nodes for toleration in gpu_tolerations(node)]
    return list({json.dumps(item, sort_keys=True): item for item in wanted}.values())


def _dcgm_environment(estate: Estate) -> list[dict[str, str]]:
    """What dcgm-exporter needs to say each pod's own memory; empty where nothing here reads it."""
    if estate.exporter.source != "dcgm":
        return []
    shared = sorted({name for node in estate.nodes for name in node.gpu_resources()})
    variables = {
        "KUBERNETES_VIRTUAL_GPUS": "true",
        "NVIDIA_RESOURCE_NAMES": ",".join(shared),
        "DCGM_EXPORTER_INTERVAL": f"{estate.exporter.dcgm_collection_seconds * 1000:.0f}",
    }
    return [{"name": name, "value": value} for name, value in variables.items()]


def _merged(further: Mapping[str, Any], decided: Mapping[str, Any]) -> dict[str, Any]:
    """Both, block by block; `validate` has refused what would stand in both."""
    merged = dict(further)
    for key, value in decided.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged
