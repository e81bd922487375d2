"""The namespace gpu-system: rendered once, in wave 0, wherever anything of the estate lives in it."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE, resolved_engine
from helpers.domain.estate.model import Estate
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template


def gpu_system_address(estate: Estate) -> str:
    """What in wave 0 has to wait for the namespace names this address."""
    return "namespace" if estate.namespace == GPU_SYSTEM_NAMESPACE else "gpu-system-namespace"


def gpu_system_objects(estate: Estate) -> Iterator[RenderedObject]:
    """The namespace; nothing where nobody needs it, or where it is the estate's own, which is rendered anyway."""
    by_webhook = estate.admission is not None and resolved_engine(estate, estate.admission) == "webhook"
    if (
        not (by_webhook or estate.coordinator is not None or estate.manager is not None)
        or estate.namespace == GPU_SYSTEM_NAMESPACE
    ):
        return
    yield from render_template(
        0,
        "base/gpu-system.yaml.j2",
        address=gpu_system_address(estate),
        namespace=GPU_SYSTEM_NAMESPACE,
        labels=names.MANAGED_BY,
    )
