"""Wave 2: what the manager's jobs stand on: machines, project namespaces, cards' partitions, queues."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain import names
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.model import Estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.node_pools import node_pool_objects
from helpers.rendering.objects import RenderedObject
from helpers.rendering.project_queues import kueue_objects, volcano_objects
from helpers.rendering.projects import project_objects
from helpers.rendering.templates import render_template


def manager_platform_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Everything besides the manager itself; nothing where the estate has no `manager` block."""
    manager = estate.manager
    if manager is None:
        return
    yield from node_pool_objects(estate, manager, names.MANAGED_BY)
    yield from project_objects(estate, manager, names.MANAGED_BY)
    yield from _mig(estate, manager)
    if manager.engine == "kueue":
        yield from kueue_objects(estate, manager, names.MANAGED_BY)
    elif manager.engine == "volcano":
        yield from volcano_objects(estate, manager, names.MANAGED_BY)


def _mig(estate: Estate, manager: Manager) -> Iterator[RenderedObject]:
    if manager.mig is not None:
        yield from render_template(
            2,
            "mig/config.yaml.j2",
            labels=names.MANAGED_BY,
            name=manager.mig.config_map,
            namespace=estate.namespace,
            document=to_yaml(manager.mig.mig_parted()),
        )
