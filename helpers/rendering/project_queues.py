"""A queue for each project, in the engine that the estate names.

Kueue: kueue.x-k8s.io/v1beta2. Volcano: scheduling.volcano.sh/v1beta1. Neither is installed by this project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from helpers.domain import names
from helpers.domain.estate.gpu_ceilings import gpu_ceiling
from helpers.domain.estate.job_priorities import WORDS
from helpers.domain.estate.manager import Manager, Project
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE
from helpers.domain.estate.project_limits import REQUESTS
from helpers.domain.quantity import Quantity, canonical_count
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.projects import after_namespace
from helpers.rendering.templates import render_template

FLAVOR = "gpumem"
CHECK = "gpumem-provisioning"
# Kueue admits no workload that asks for a resource which its queue does not cover, so what nobody limits
# is covered by more than there is. Sums over many projects must stay below 2^63.
WITHOUT_LIMIT = {"memory": "1Pi", "ephemeral-storage": "1Pi"}
MORE_THAN_THERE_IS = "1G"


def kueue_objects(estate: Estate, manager: Manager, labels: Mapping[str, str]) -> Iterator[RenderedObject]:
    """Flavor, priorities, the admission check, and each project's two queues."""
    covered = _covered(estate, manager)
    provisioning_class = manager.queues.provisioning_class
    checked = provisioning_class is not None
    yield from render_template(
        2,
        "kueue/queues.yaml.j2",
        labels=labels,
        flavor=FLAVOR,
        tolerations=_tolerations(manager),
        priorities=_priorities(estate, manager),
        check={"name": CHECK, "provisioning_class": provisioning_class, "resources": [WHOLE_GPU_RESOURCE]}
        if checked
        else None,
        cohort=manager.queues.cohort,
        preempts=preempts(estate, manager),
        covered=covered,
        local_queue=names.LOCAL_QUEUE,
        queue_after=["kueue-flavor", *(["kueue-admission-check"] if checked else [])],
        queues=[_cluster_queue(estate, manager, project, covered) for project in manager.projects],
    )


def volcano_objects(estate: Estate, manager: Manager, labels: Mapping[str, str]) -> Iterator[RenderedObject]:
    """Each project's queue."""
    ceilings = {project.name: gpu_ceiling(manager, project) for project in manager.projects}
    yield from render_template(
        2,
        "volcano/queues.yaml.j2",
        labels=labels,
        preempts=preempts(estate, manager),
        queues=[
            {
                "address": address_of("volcano-queue", project.name),
                "name": names.project_queue(project.name),
                "weight": int(project.weight),
                "capability": None if ceiling is None else {WHOLE_GPU_RESOURCE: canonical_count(ceiling)},
            }
            for project in manager.projects
            for ceiling in (ceilings[project.name],)
        ],
    )


def preempts(estate: Estate, manager: Manager) -> bool:
    """Whether a waiting job may take a running one's place: where one of its priority classes may evict."""
    if manager.priorities is None:
        return False
    used = {manager.priorities.class_of(word) for word in WORDS}
    return any(item.preempt for item in estate.priority_classes if item.name in used)


def _priorities(estate: Estate, manager: Manager) -> list[tuple[str, str, int]]:
    if manager.priorities is None:
        return []
    values = {item.name: item.value for item in estate.priority_classes}
    classes = [manager.priorities.class_of(word) for word in WORDS]
    return [(address_of("kueue-priority", name), name, values[name]) for name in classes]


def _covered(estate: Estate, manager: Manager) -> list[str]:
    shares = {name for node in estate.nodes for name in node.gpu_resources()}
    parts = manager.mig.resources() if manager.mig else []
    others = sorted({estate.resource, *shares, *parts} - {WHOLE_GPU_RESOURCE})
    return ["cpu", "memory", "ephemeral-storage", WHOLE_GPU_RESOURCE, *others]


def _tolerations(manager: Manager) -> list[dict[str, str]]:
    """A job is admitted to any of the pools, so its pods tolerate what all pools' machines carry."""
    taints = {(taint.key, taint.value, taint.effect): taint for pool in manager.node_pools for taint in pool.taints}
    return [
        {"key": key, "operator": "Equal", "value": value, "effect": effect} for key, value, effect in sorted(taints)
    ]


def _cluster_queue(estate: Estate, manager: Manager, project: Project, covered: list[str]) -> dict[str, Any]:
    return {
        "address": address_of("kueue-cluster-queue", project.name),
        "name": names.project_queue(project.name),
        "namespace": project.name,
        "weight": Quantity(Fraction(str(project.weight))).canonical(),
        "resources": [_nominal(manager, project, name) for name in covered],
        "local_address": address_of("kueue-local-queue", project.name),
        "local_after": [address_of("kueue-cluster-queue", project.name), *after_namespace(estate, project)],
    }


def _nominal(manager: Manager, project: Project, resource: str) -> dict[str, str]:
    if resource == WHOLE_GPU_RESOURCE and project.gpu_quota_count is not None:
        own = {"name": resource, "nominalQuota": canonical_count(project.gpu_quota_count)}
        most = manager.queues.borrowing_gpu_count
        return own if most is None else own | {"borrowingLimit": canonical_count(most)}
    hard = project.quota.hard if project.quota else {}
    said = hard.get(f"{REQUESTS}{resource}")
    amount = WITHOUT_LIMIT.get(resource, MORE_THAN_THERE_IS) if said is None else str(said)
    # Only GPUs are lent: the namespace's ResourceQuota holds the rest to what the project has.
    return {"name": resource, "nominalQuota": Quantity.parse(amount).canonical(), "borrowingLimit": "0"}
