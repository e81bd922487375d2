"""What rendering produces: Kubernetes objects in an order, and the steps between them.

Terraform stacks, `gpumem render` and review all consume this one list, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Wave = Literal[0, 1, 2]
WAVE_FOLDERS: dict[int, str] = {0: "0-nvidia", 1: "1-consumers", 2: "2-platform"}


@dataclass(frozen=True)
class RenderedObject:
    """One Kubernetes object.

    `address` is its construct id and Terraform state address: stable, lower-case with dashes,
    unique within its wave, never derived from a position. `retain`: destroy leaves it (namespaces:
    others may live there). `after`: addresses (objects or steps of the same wave) that come first.
    """

    wave: Wave
    component: str
    address: str
    manifest: Mapping[str, Any]
    retain: bool = False
    after: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.manifest["kind"])


@dataclass(frozen=True)
class Step:
    """One run of a helper: `gpumem <arguments>` with `triggers` (flat strings) as its JSON input.

    `on` says when: `create` runs at apply whenever a trigger changes, `destroy` runs only when the
    step is removed (it sees its triggers and nothing else).
    """

    wave: Wave
    component: str
    address: str
    arguments: tuple[str, ...]
    triggers: Mapping[str, str]
    on: Literal["create", "destroy"]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """Everything that an estate renders to, in dependency order."""

    objects: tuple[RenderedObject, ...] = ()
    steps: tuple[Step, ...] = field(default=())

    def wave(self, wave: int) -> Rendered:
        """Only what belongs to `wave`."""
        return Rendered(
            tuple(item for item in self.objects if item.wave == wave),
            tuple(step for step in self.steps if step.wave == wave),
        )
