"""The tree for Argo CD: sync waves and hooks on every object, and the project and Applications that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from helpers.rendering.gitops_stages import Stage, group_of
from helpers.rendering.gitops_steps import step_job
from helpers.rendering.gpu_operator import gpu_operator_delivery
from helpers.rendering.objects import WAVE_FOLDERS, RenderedObject, Wave
from helpers.rendering.templates import render_template

PREFIX = "argocd.argoproj.io/"
PROJECT_ADDRESS = "argocd-project"
# Controllers of this project that write into rendered objects after their creation.
_OWN_MANAGERS = (names.FIELD_MANAGER_INJECTOR, names.FIELD_MANAGER_RELEASE, names.FIELD_MANAGER_REPLICAS)
_SCALED = ("Deployment", "StatefulSet")
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def argocd_jobs(estate: Estate, stage: Stage) -> Iterator[RenderedObject]:
    """The Jobs of a stage of steps: hooks where others wait for them, else ordinary Jobs.

    A hook that changes is no difference that Argo CD sees, and while a hook runs, a sync waits for
    everything in its wave to be healthy. Neither will do for a tenant's own steps.
    """
    hooks = stage.content == "steps"
    yield from (step_job(estate, step, keeps_trying=not hooks) for step in stage.steps)


def argocd_annotations(item: RenderedObject, stage: Stage, sync_wave: int) -> dict[str, str]:
    """What Argo CD is told about `item`, which is in `stage`."""
    found = {f"{PREFIX}sync-wave": str(sync_wave)}
    if stage.content == "steps":
        found |= {f"{PREFIX}hook": "Sync", f"{PREFIX}hook-delete-policy": "BeforeHookCreation"}
    if item.retain:
        found[f"{PREFIX}sync-options"] = "Prune=false,Delete=false"
    if stage.content == "workloads" and (stage.wave == 1 or item.kind == "DaemonSet"):
        # A tenant may stay Pending, and a node may be away: neither holds the next wave back.
        found[f"{PREFIX}ignore-healthcheck"] = "true"
    return found


def sync_waves(stages: Sequence[Stage]) -> dict[str, int]:
    """`{folder: sync wave}`: the stage's number; a tenant's steps come with the workloads, as the last wave.

    In the last wave a sync waits for nobody's health, if there is no hook in it.
    """
    found = {stage.folder: stage.number for stage in stages}
    for stage in stages:
        workloads = [other for other in stages if other.wave == stage.wave and other.content == "workloads"]
        if stage.content == "tenant-steps" and workloads:
            found[stage.folder] = workloads[0].number
    return found


def argocd_objects(
    estate: Estate, gitops: GitOps, delivered: Sequence[RenderedObject], waves: Sequence[Wave]
) -> Iterator[RenderedObject]:
    """The AppProject, which allows what is in `delivered` and no more, the ApplicationSet, and the operator's own."""
    shared = {
        "gitops": gitops,
        "namespace": gitops.own_namespace(),
        "labels": names.MANAGED_BY,
    }
    yield from render_template(
        0,
        "argocd/project.yaml.j2",
        **shared,
        address=PROJECT_ADDRESS,
        namespaces=sorted({str(item.manifest["metadata"].get("namespace", "")) for item in delivered} - {""}),
        cluster_kinds=_cluster_kinds(delivered),
        namespaced_kinds=_namespaced_kinds(delivered),
    )
    wave_label = f"{estate.label_prefix}/wave"
    yield from render_template(
        0,
        "argocd/application-set.yaml.j2",
        **shared,
        elements=[{"wave": str(wave), "folder": WAVE_FOLDERS[wave]} for wave in waves],
        default_namespace=estate.namespace,
        application_name=f"{gitops.name}-{{{{.folder}}}}",
        application_labels={**names.MANAGED_BY, wave_label: "{{.wave}}"},
        application_path=f"{gitops.path}/{{{{.folder}}}}",
        steps=[{"matchExpressions": [{"key": wave_label, "operator": "In", "values": [str(wave)]}]} for wave in waves],
        ignored=_ignored(gitops, delivered),
    )
    yield from gpu_operator_delivery(estate)


def _cluster_kinds(delivered: Sequence[RenderedObject]) -> list[dict[str, str]]:
    found = {
        (group_of(item), item.kind, str(item.manifest["metadata"]["name"]))
        for item in delivered
        if "namespace" not in item.manifest["metadata"]
    }
    return [{"group": group, "kind": kind, "name": name} for group, kind, name in sorted(found)]


def _namespaced_kinds(delivered: Sequence[RenderedObject]) -> list[dict[str, str]]:
    found = {(group_of(item), item.kind) for item in delivered if "namespace" in item.manifest["metadata"]}
    return [{"group": group, "kind": kind} for group, kind in sorted(found)]


def _ignored(gitops: GitOps, delivered: Sequence[RenderedObject]) -> list[Mapping[str, Any]]:
    """Fields that others write into what is rendered here."""
    kinds = {item.kind for item in delivered}
    scaled = [{"group": "apps", "kind": kind, "jsonPointers": ["/spec/replicas"]} for kind in _SCALED if kind in kinds]
    bundles = [
        {
            "group": "admissionregistration.k8s.io",
            "kind": kind,
            "jqPathExpressions": [".webhooks[]?.clientConfig.caBundle"],
        }
        for kind in _WEBHOOKS
        if kind in kinds
    ]
    managers = sorted({*_OWN_MANAGERS, *gitops.ignored_field_managers})
    return [*scaled, *bundles, {"group": "*", "kind": "*", "managedFieldsManagers": managers}]
