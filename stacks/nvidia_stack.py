"""Wave 0: the nodes' side."""

from __future__ import annotations

from pathlib import Path

from cdktf import TerraformOutput, TerraformStack
from constructs import Construct

from helpers.domain.estate.model import Estate
from helpers.rendering.nvidia import device_plugin_labels
from helpers.rendering.objects import Rendered
from stacks.constructs.backend import add_backend
from stacks.constructs.composition import compose
from stacks.constructs.providers import add_providers

NAME = "nvidia"


class NvidiaStack(TerraformStack):
    """Namespace, RuntimeClass, device plugin configuration and the capacity of every node."""

    def __init__(self, scope: Construct, estate: Estate, rendered: Rendered, estate_file: Path, program: str) -> None:
        super().__init__(scope, NAME)
        add_backend(self, NAME, estate.terraform.backend, estate_file)
        add_providers(self, estate.terraform)
        compose(self, rendered.wave(0), program)
        TerraformOutput(
            self,
            "advertised_mib",
            value={node.name: node.advertised_mib for node in estate.nodes},
            description="MiB that one node of each entry advertises",
        )
        TerraformOutput(
            self,
            "device_plugin_labels",
            value=device_plugin_labels(estate),
            description="The label that points a node of each entry to its device plugin configuration",
        )
