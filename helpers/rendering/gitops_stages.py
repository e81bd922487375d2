"""The order of a rendering as a row of stages: each is applied when the one before it is done.

Terraform follows every single `after`. Argo CD and Flux apply a whole folder at once, by kind, and
wait between folders; so only steps that something waits for divide a wave. What runs pods, or is an
operator's, comes in the last stage of objects: between folders, Argo CD waits until everything is
healthy, and nothing may wait for a tenant that stays Pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from helpers.rendering.objects import WAVE_FOLDERS, Rendered, RenderedObject, RenderingError, Step, Wave

Content = Literal["objects", "steps", "workloads", "tenant-steps"]
_RUNNING_PODS = ("CronJob", "DaemonSet", "Deployment", "StatefulSet")


@dataclass(frozen=True)
class Stage:
    """Objects, or steps that run at the same time, in one folder. `number` counts within the wave."""

    wave: Wave
    number: int
    content: Content
    objects: tuple[RenderedObject, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def folder(self) -> str:
        """`0-nvidia/1-steps`."""
        return f"{WAVE_FOLDERS[self.wave]}/{self.number}-{self.content}"


def stages(rendered: Rendered) -> tuple[Stage, ...]:
    """Every wave's stages, in order. Steps that run at destroy are in none.

    Raises:
        RenderingError: a step that others wait for comes after something that runs pods.
    """
    found: list[Stage] = []
    for wave in (0, 1, 2):
        found += _numbered(wave, _of_wave(rendered.wave(wave)))
    return tuple(found)


_Part = tuple[Content, tuple[RenderedObject, ...], tuple[Step, ...]]


def _numbered(wave: Wave, parts: Iterator[_Part]) -> Iterator[Stage]:
    filled = (part for part in parts if part[1] or part[2])
    for number, (content, objects, steps) in enumerate(filled):
        yield Stage(wave, number, content, objects, steps)


def _of_wave(rendered: Rendered) -> Iterator[_Part]:
    order = tuple(rendered.ordered())
    awaited = {address for item in order for address in item.after}
    dividing = {item.address for item in rendered.steps if item.on == "create" and item.address in awaited}
    positions = _positions(order, dividing)
    late = _late(order)
    if wrong := sorted(late & dividing):
        raise RenderingError(f"{wrong[0]} would wait for pods, and others wait for it")
    for position in range(max(positions.values(), default=0) + 1):
        here = [item for item in order if positions[item.address] == position and item.address not in late]
        yield "objects", _objects(here), ()
        yield "steps", (), tuple(item for item in rendered.steps if item in here and item.address in dividing)
    yield "workloads", _objects(item for item in order if item.address in late), ()
    yield "tenant-steps", (), tuple(s for s in rendered.steps if s.on == "create" and s.address not in dividing)


def _objects(items: Iterable[RenderedObject | Step]) -> tuple[RenderedObject, ...]:
    return tuple(item for item in items if isinstance(item, RenderedObject))


def _positions(order: tuple[RenderedObject | Step, ...], dividing: set[str]) -> dict[str, int]:
    """How many dividing steps stand, one behind the other, before each address."""
    found: dict[str, int] = {}
    for item in order:
        found[item.address] = max((found[before] + (before in dividing) for before in item.after), default=0)
    return found


def _late(order: tuple[RenderedObject | Step, ...]) -> set[str]:
    """What may be unhealthy for long, and all that comes after it."""
    found: set[str] = set()
    for item in order:
        waits = isinstance(item, RenderedObject) and (item.kind in _RUNNING_PODS or not _is_built_in(item))
        if waits or found.intersection(item.after):
            found.add(item.address)
    return found


def _is_built_in(item: RenderedObject) -> bool:
    """Whether the API server knows the kind without a CustomResourceDefinition."""
    group = group_of(item)
    return "." not in group or group.endswith(".k8s.io")


def group_of(item: RenderedObject) -> str:
    """The API group; empty for the core's."""
    version = str(item.manifest["apiVersion"])
    return version.split("/", 1)[0] if "/" in version else ""
