"""An estate in, everything that is applied out: the one rendering behind Terraform, GitOps and review."""

from __future__ import annotations

from helpers.domain.estate import Estate
from helpers.rendering.consumers import consumer_objects, consumer_steps
from helpers.rendering.nvidia import nvidia_objects, nvidia_steps
from helpers.rendering.objects import Rendered


def render(estate: Estate) -> Rendered:
    """Objects and steps of every wave. The same estate gives the same result; no cluster is asked."""
    consumers = consumer_objects(estate)
    return Rendered(
        objects=(*nvidia_objects(estate), *consumers),
        steps=(*nvidia_steps(estate), *consumer_steps(estate, consumers)),
    )
