"""What rendering produces: Kubernetes objects in an order, and the steps between them.

Terraform stacks, `gpumem render` and review all consume this one list, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from helpers.domain.errors import GpumemError

Wave = Literal[0, 1, 2]
WAVE_FOLDERS: dict[int, str] = {0: "0-nvidia", 1: "1-consumers", 2: "2-platform"}


def address_of(family: str, name: str = "") -> str:
    """The address of the `name`d member of a family: `address_of("tenant", "immich-ml")`.

    Terraform allows letters, digits, dashes and underscores. An object's name has no underscore,
    so writing its dots as underscores keeps two names apart.
    """
    return f"{family}-{name.replace('.', '_')}" if name else family


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
class RenderedFile:
    """A text that another tool takes: Helm values, a machine's configuration.

    It goes into a folder beside the waves', so that those hold nothing but what is applied in order.
    """

    folder: str
    name: str
    text: str

    @property
    def path(self) -> str:
        """Relative to the tree's root."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Rendered:
    """Everything that an estate renders to, in dependency order."""

    objects: tuple[RenderedObject, ...] = ()
    steps: tuple[Step, ...] = field(default=())
    files: tuple[RenderedFile, ...] = field(default=())

    def ordered(self) -> Iterator[RenderedObject | Step]:
        """Objects and steps together, each behind everything that it is `after`; waves in order.

        What has nothing to wait for keeps the order in which it was rendered.

        Raises:
            RenderingError: two have one address, `after` names nothing, or there is a cycle.
        """
        everything: tuple[RenderedObject | Step, ...] = (*self.objects, *self.steps)
        for wave in sorted({item.wave for item in everything}):
            yield from _in_order([*self.wave(wave).objects, *self.wave(wave).steps])

    def wave(self, wave: int) -> Rendered:
        """Only what belongs to `wave`."""
        return Rendered(
            tuple(item for item in self.objects if item.wave == wave),
            tuple(step for step in self.steps if step.wave == wave),
        )


class RenderingError(GpumemError):
    """The rendering contradicts itself: a fault of this project, not of the estate."""


def _in_order(items: list[RenderedObject | Step]) -> Iterator[RenderedObject | Step]:
    by_address = {item.address: item for item in items}
    if len(by_address) != len(items):
        addresses = [item.address for item in items]
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        raise RenderingError(f"two things have one address: {', '.join(twice)}")
    done: set[str] = set()
    waiting = items
    while waiting:
        blocked: list[RenderedObject | Step] = []
        for item in waiting:
            unknown = [address for address in item.after if address not in by_address]
            if unknown:
                raise RenderingError(f"{item.address} is after {', '.join(unknown)}, which nothing has as address")
            if done.issuperset(item.after):
                done.add(item.address)
                yield item
            else:
                blocked.append(item)
        if len(blocked) == len(waiting):
            raise RenderingError(f"these wait for each other: {', '.join(item.address for item in blocked)}")
        waiting = blocked
