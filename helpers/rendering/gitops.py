"""The rendering as a tree that Argo CD or Flux applies in the order in which Terraform would (ADR 0021)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from helpers.rendering.gitops_argocd import argocd_annotations, argocd_jobs, argocd_objects, sync_waves
from helpers.rendering.gitops_flux import flux_annotations, flux_jobs, flux_objects
from helpers.rendering.gitops_stages import Stage, stages
from helpers.rendering.gitops_steps import with_step_rights
from helpers.rendering.objects import Rendered, RenderedObject

# The engine's own objects; applied once, or by the Application or Kustomization that is there already.
ENGINE_FOLDER = "gitops"


@dataclasses.dataclass(frozen=True)
class DeliveredFolder:
    """Objects that are applied together, in `folder` of the tree."""

    folder: str
    objects: tuple[RenderedObject, ...]


def delivered_folders(estate: Estate, rendered: Rendered) -> tuple[DeliveredFolder, ...]:
    """The tree's folders in the order in which they are applied, the engine's own objects last.

    Empty where the estate has no `gitops`.
    """
    if estate.gitops is None:
        return ()
    order = stages(with_step_rights(estate, rendered))
    folders = tuple(DeliveredFolder(stage.folder, _of_stage(estate, estate.gitops, stage, order)) for stage in order)
    own = tuple(_engine_objects(estate, estate.gitops, order, folders))
    return (*folders, DeliveredFolder(ENGINE_FOLDER, own))


def _of_stage(estate: Estate, gitops: GitOps, stage: Stage, order: tuple[Stage, ...]) -> tuple[RenderedObject, ...]:
    if gitops.engine == "flux":
        return tuple(_annotated(item, flux_annotations(item)) for item in (*stage.objects, *flux_jobs(estate, stage)))
    sync_wave = sync_waves(order)[stage.folder]
    objects = (*stage.objects, *argocd_jobs(estate, stage))
    return tuple(_annotated(item, argocd_annotations(item, stage, sync_wave)) for item in objects)


def _engine_objects(
    estate: Estate, gitops: GitOps, order: tuple[Stage, ...], folders: tuple[DeliveredFolder, ...]
) -> Iterator[RenderedObject]:
    if gitops.engine == "flux":
        yield from flux_objects(gitops, order)
        return
    delivered = [item for folder in folders for item in folder.objects]
    yield from argocd_objects(estate, gitops, delivered, sorted({stage.wave for stage in order}))


def _annotated(item: RenderedObject, annotations: Mapping[str, str]) -> RenderedObject:
    if not annotations:
        return item
    metadata: dict[str, Any] = dict(item.manifest["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
    return dataclasses.replace(item, manifest={**item.manifest, "metadata": metadata})
