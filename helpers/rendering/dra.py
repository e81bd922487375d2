"""Wave 0: what claims on a card's memory need: the class that they name, and the agent that publishes the cards."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.dra import naming
from helpers.domain.dra.claims import API_VERSION, device_class_expression
from helpers.domain.estate.model import Estate
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template


def dra_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Nothing where no kind of node counts budgets by claims."""
    if not estate.claim_nodes():
        return
    yield from render_template(
        0,
        "dra-agent/device-class.yaml.j2",
        api_version=API_VERSION,
        name=naming.DEVICE_CLASS,
        labels={"app.kubernetes.io/managed-by": "gpumem"},
        expression=device_class_expression(estate),
    )
