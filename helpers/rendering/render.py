"""An estate in, everything that is applied out: the one rendering behind Terraform, GitOps and review."""

from __future__ import annotations

from helpers.domain.estate.model import Estate
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.admission import admission_objects
from helpers.rendering.consumers import consumer_objects, consumer_steps
from helpers.rendering.dra import dra_objects
from helpers.rendering.gpu_operator import gpu_operator_files
from helpers.rendering.gpu_system import gpu_system_objects
from helpers.rendering.manager import manager_objects
from helpers.rendering.manager_platform import manager_platform_objects
from helpers.rendering.monitoring import monitoring_objects
from helpers.rendering.nvidia import nvidia_objects, nvidia_steps
from helpers.rendering.objects import Rendered
from helpers.rendering.platform import platform_objects
from helpers.rendering.talos import talos_files
from helpers.rendering.telemetry import telemetry_objects


def render(estate: Estate) -> Rendered:
    """Objects, steps and files. The same estate gives the same result; no cluster is asked."""
    consumers = consumer_objects(estate)
    monitoring = monitoring_objects(estate, watchdog_settings(estate), estate.monitoring)
    return Rendered(
        objects=(
            *nvidia_objects(estate),
            *dra_objects(estate),
            *gpu_system_objects(estate),
            *admission_objects(estate),
            *telemetry_objects(estate),
            *monitoring,
            *consumers,
            *platform_objects(estate),
            *manager_platform_objects(estate),
            *manager_objects(estate),
        ),
        steps=(*nvidia_steps(estate), *consumer_steps(estate, consumers)),
        files=(*gpu_operator_files(estate), *talos_files(estate)),
    )
