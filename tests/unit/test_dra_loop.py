"""The agent's loop: whatever ends one of its threads ends the process, which a health check cannot see otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from helpers.domain.telemetry.reading import GpuReading
from helpers.ports.cluster import ObjectRef, WatchEvent
from helpers.services.dra_loop import NODES, DraLoop
from tests.fakes.dra import NODE, FakeDraApi, node
from tests.fakes.telemetry import FakeDevices, reading
from tests.unit.test_dra_publishing import Scene


@dataclass
class QuietApi(FakeDraApi):
    """Its watches see nothing, or `broken` on that of the Node."""

    broken: Exception | None = None

    def watch(self, ref: ObjectRef, *, stop: Any, **_: Any) -> Iterator[WatchEvent]:
        if self.broken is not None and ref == NODES:
            raise self.broken
        while not stop():
            threading.Event().wait(0.01)
        yield from ()


class BrokenDevices(FakeDevices):
    """Its second look meets a mistake of ours."""

    def read(self) -> tuple[GpuReading, ...]:
        if len(self.rounds) == 1:
            raise KeyError("gpu-7")
        return super().read()


def run(api: QuietApi, devices: FakeDevices) -> None:
    scene = Scene()
    api.put(node())
    loop = DraLoop(
        scene.agent,
        api=api,
        devices=devices,
        metrics=scene.metrics,
        clock=scene.clock,
        log=scene.log,
        node_name=NODE,
        interval_seconds=0.0,
    )
    asked: list[None] = []
    loop.run(lambda: asked.append(None) or len(asked) > 20)  # type: ignore[func-returns-value]


def test_a_look_that_ends_by_a_mistake_of_ours_ends_the_process() -> None:
    with pytest.raises(KeyError, match="gpu-7"):
        run(QuietApi(), BrokenDevices([(reading(0, {}),), ()]))


def test_a_watch_that_ends_by_a_mistake_of_ours_ends_the_process() -> None:
    with pytest.raises(KeyError, match="metadata"):
        run(QuietApi(broken=KeyError("metadata")), FakeDevices([(reading(0, {}),)]))
