"""The tree for Flux: one Kustomization a stage, each behind the one before it, and the repository they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from helpers.rendering.gitops_stages import Stage
from helpers.rendering.gitops_steps import step_job, wait_seconds
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template

PREFIX = "kustomize.toolkit.fluxcd.io/"
_APPLY_SECONDS = 300


def flux_jobs(estate: Estate, stage: Stage) -> Iterator[RenderedObject]:
    """The Jobs of a stage of steps. Flux never starts a failed Job again, so each keeps trying."""
    yield from (step_job(estate, step, keeps_trying=True) for step in stage.steps)


def flux_annotations(item: RenderedObject) -> dict[str, str]:
    """What Flux is told about `item`."""
    return {f"{PREFIX}prune": "disabled"} if item.retain else {}


def flux_objects(gitops: GitOps, stages: Sequence[Stage]) -> Iterator[RenderedObject]:
    """The GitRepository and the Kustomizations."""
    shared = {"gitops": gitops, "namespace": gitops.own_namespace(), "labels": names.MANAGED_BY}
    yield from render_template(
        0, "flux/repository.yaml.j2", **shared, interval=f"{gitops.interval_seconds}s", ref=_ref(gitops.revision)
    )
    before = ""
    for stage in stages:
        name = _name(gitops, stage)
        yield from render_template(
            0,
            "flux/kustomization.yaml.j2",
            **shared,
            address=address_of("flux-kustomization", stage.folder.replace("/", "-")),
            name=name,
            path=f"./{gitops.path}/{stage.folder}",
            interval=f"{gitops.interval_seconds}s",
            timeout=f"{max((wait_seconds(step) for step in stage.steps), default=0) + _APPLY_SECONDS}s",
            # Steps are waited for; objects only until they are applied: a tenant may stay Pending.
            wait=bool(stage.steps),
            depends_on=[{"name": before}] if before else [],
        )
        before = name


def _name(gitops: GitOps, stage: Stage) -> str:
    return f"{gitops.name}-{stage.folder.replace('/', '-')}"


def _ref(revision: str) -> dict[str, Any]:
    if revision.startswith("refs/"):
        return {"name": revision}
    is_commit = len(revision) == 40 and set(revision) <= set("0123456789abcdef")
    return {"commit": revision} if is_commit else {"branch": revision}
