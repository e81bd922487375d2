"""Wave 2: what works on top of cards and tenants."""

from __future__ import annotations

from pathlib import Path

from cdktf import TerraformStack
from constructs import Construct

from helpers.domain.estate.model import Estate
from helpers.rendering.objects import Rendered
from stacks.constructs.backend import add_backend
from stacks.constructs.composition import compose
from stacks.constructs.providers import add_providers

NAME = "platform"


class PlatformStack(TerraformStack):
    """The coordinator, where the estate declares one."""

    def __init__(self, scope: Construct, estate: Estate, rendered: Rendered, estate_file: Path, program: str) -> None:
        super().__init__(scope, NAME)
        add_backend(self, NAME, estate.terraform.backend, estate_file)
        add_providers(self, estate.terraform)
        compose(self, rendered.wave(2), program)
