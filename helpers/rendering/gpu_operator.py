"""The GPU Operator's Helm values, and Argo CD's Application and project that install it with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.domain import names
from helpers.domain.estate.gpu_operator import GpuOperator
from helpers.domain.estate.gpu_operator_checks import default_config
from helpers.domain.estate.mig import ALL_DISABLED
from helpers.domain.estate.model import Estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.nvidia import gpu_tolerations
from helpers.rendering.objects import RenderedFile, RenderedObject
from helpers.rendering.templates import render_document, render_template

FOLDER = "gpu-operator"
VALUES_FILE = "values.yaml"
APPLICATION_FILE = "application.yaml"
# Where Talos's extensions have put the driver's libraries and programs.
_TALOS_DRIVER_FOLDER = "/usr/local"


@dataclass(frozen=True)
class _ArgoCd:
    """Where Argo CD has the operator's Application; as a fresh Argo CD has it, where the estate does not say."""

    name: str = "gpu-operator"
    namespace: str = "argocd"
    project: str = "default"
    server: str = "https://kubernetes.default.svc"


def gpu_operator_files(estate: Estate) -> Iterator[RenderedFile]:
    """Values for Helm and, with a chart repository, an Application; nothing without a `gpu_operator` block.

    With `gitops` the Application is one of the engine's own objects, and lies with those.
    """
    operator = estate.gpu_operator
    if operator is None:
        return
    head = f"# For NVIDIA's chart gpu-operator {operator.chart_version}, in namespace {estate.namespace}."
    yield RenderedFile(FOLDER, VALUES_FILE, f"{head}\n{to_yaml(gpu_operator_values(estate, operator))}")
    application = gpu_operator_application(estate) if estate.gitops is None else None
    if application is not None:
        yield RenderedFile(FOLDER, APPLICATION_FILE, to_yaml(application.manifest))


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


def gpu_operator_application(estate: Estate) -> RenderedObject | None:
    """Argo CD's Application for the operator.

    None where no chart repository is named, and where Flux delivers.
    """
    operator, argocd = estate.gpu_operator, _argocd(estate)
    if operator is None or operator.chart_repository is None or argocd is None:
        return None
    manifest = render_document(
        "gpu-operator/application.yaml.j2",
        labels=names.MANAGED_BY,
        argocd=argocd,
        chart_repository=operator.chart_repository,
        chart_version=operator.chart_version,
        values=gpu_operator_values(estate, operator),
        namespace=estate.namespace,
    )
    # No `render_template`: what stands in Helm's values is the chart's, and no quantity of ours.
    return RenderedObject(wave=0, component=FOLDER, address="gpu-operator-application", manifest=manifest)


def gpu_operator_delivery(estate: Estate) -> Iterator[RenderedObject]:
    """The Application, and the project that allows what the chart brings; nothing where there is no Application."""
    application = gpu_operator_application(estate)
    if application is None or estate.gpu_operator is None:
        return
    yield from render_template(
        0,
        "gpu-operator/project.yaml.j2",
        labels=names.MANAGED_BY,
        argocd=_argocd(estate),
        chart_repository=estate.gpu_operator.chart_repository,
        namespace=estate.namespace,
    )
    yield application


def _argocd(estate: Estate) -> _ArgoCd | None:
    gitops = estate.gitops
    if gitops is None:
        return _ArgoCd()
    if gitops.engine != "argocd":
        return None
    name = f"{gitops.name}-gpu-operator"
    return _ArgoCd(name, gitops.own_namespace(), project=name, server=gitops.cluster_url)


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
