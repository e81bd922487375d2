"""Where a stack keeps its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsii
from cdktf import LocalBackend, TerraformBackend, TerraformRemoteState, TerraformStack
from constructs import Construct

from helpers.domain.estate.model import Backend
from helpers.domain.estate.state_backend import backend_config

DEFAULT_ESTATE = "gpumem.yaml"


def add_backend(stack: TerraformStack, name: str, backend: Backend, estate_file: Path) -> None:
    """The estate's backend for the stack `name`; a local state lies beside the estate file.

    Terraform works in a folder that synth may empty, so local paths are made absolute. An estate
    under another name than gpumem.yaml has its name in the state's: two estates in one folder must
    not plan on one state.
    """
    config = backend_config(backend, name)
    if backend.type != "local":
        _AnyBackend(stack, backend.type, config)
        return
    folder = estate_file.resolve().parent
    estate = "" if estate_file.name == DEFAULT_ESTATE else f"{estate_file.stem}."
    path = folder / config.pop("path", f"terraform.{estate}{name}.tfstate")
    local = LocalBackend(stack, path=str(path))
    for key, value in config.items():
        local.add_override(key, value)


class _AnyBackend(TerraformBackend):
    """A backend by its Terraform name and its own settings, so that new settings need no new class."""

    def __init__(self, stack: TerraformStack, name: str, config: dict[str, Any]) -> None:
        super().__init__(stack, "backend", name)
        self._config = config

    @jsii.member(jsii_name="getRemoteStateDataSource")
    def get_remote_state_data_source(self, scope: Construct, name: str, from_stack: str) -> TerraformRemoteState:
        """Never asked for: the stacks read the cluster, not each other's state."""
        raise NotImplementedError(f"{from_stack} shares no values through its state ({scope.node.path}/{name})")

    @jsii.member(jsii_name="synthesizeAttributes")
    def _synthesize_attributes(self) -> dict[str, Any]:
        return self._config
