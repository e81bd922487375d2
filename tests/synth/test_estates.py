"""Every shipped estate, and what must hold of each rendering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.estate.model import Estate
from helpers.domain.quantity import Quantity
from helpers.rendering.objects import RenderedObject, Step
from helpers.rendering.render import render
from helpers.rendering.write import STEPS_FILE, to_stream, write_tree
from tests.synth.conftest import Stacks
from tests.synth.device_plugin_v1 import DevicePluginConfig
from tests.synth.estates import SHIPPED, shipped

pytestmark = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def quantities(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything that Kubernetes reads as a quantity, found by field name and not by our own walk."""
    if isinstance(value, dict):
        for key, item in value.items():
            here = (*path, key)
            if path[-1:] in (("limits",), ("requests",), ("hard",)) or key in ("sizeLimit", "divisor"):
                yield here, item
            else:
                yield from quantities(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from quantities(item, (*path, str(index)))


def test_every_quantity_is_spelled_as_the_api_server_stores_it(path: Path) -> None:
    found = [(o.address, *q) for o in render(shipped(path)).objects for q in quantities(dict(o.manifest))]
    assert found
    for address, place, text in found:
        assert isinstance(text, str), (address, place)
        assert Quantity.parse(text).canonical() == text, (address, place)


def test_no_priority_class_preempts_unless_the_estate_says_so(path: Path) -> None:
    estate = shipped(path)
    says_so = {item.name for item in estate.priority_classes if item.preempt}
    found = {o.manifest["metadata"]["name"]: o.manifest for o in render(estate).objects if o.kind == "PriorityClass"}
    assert set(found) == {item.name for item in estate.priority_classes}
    for name, manifest in found.items():
        assert manifest["preemptionPolicy"] == ("PreemptLowerPriority" if name in says_so else "Never")


def test_the_same_estate_renders_to_the_same_text(path: Path, tmp_path: Path) -> None:
    assert render(shipped(path)) == render(shipped(path))
    assert to_stream(render(shipped(path))) == to_stream(render(shipped(path)))


def test_terraform_and_plain_yaml_hold_the_same_objects(
    path: Path, tmp_path: Path, synth: Callable[[Estate], Stacks]
) -> None:
    estate = shipped(path)
    rendered, stacks = render(estate), synth(estate)
    written = {file for file in write_tree(rendered, tmp_path) if file.name != STEPS_FILE}
    names = ("nvidia", "consumers", "platform")
    assert set(stacks.documents) == {names[item.wave] for item in rendered.ordered()}
    for wave, stack in enumerate(names[: len(stacks.documents)]):
        bodies = {
            body["yaml_body"].replace("$${", "${").replace("%%{", "%{")
            for _, body in stacks.resources(stack)
            if "yaml_body" in body
        }
        files = {file for file in written if file.parts[0].startswith(f"{wave}-")}
        assert {(tmp_path / file).read_text() for file in files} == bodies
        assert len(files) == len(bodies)
        addresses = {item.address for item in rendered.ordered() if item.wave == wave}
        assert {address.split(".", 1)[1] for address, _ in stacks.resources(stack)} == addresses


def test_the_device_plugin_accepts_its_configuration(path: Path) -> None:
    estate = shipped(path)
    config_map = next(o for o in render(estate).objects if o.address == "device-plugin-config")
    assert set(config_map.manifest["data"]) == {node.name for node in estate.nodes}
    for node in estate.nodes:
        config = DevicePluginConfig.read(config_map.manifest["data"][node.name])
        offered = 1 if config.sharing is None else config.sharing.timeSlicing.resources[0].replicas
        assert offered * node.card_count == node.shares_count()


def test_every_tenant_is_applied_one_way(path: Path) -> None:
    estate = shipped(path)
    addresses = {item.address for item in render(estate).ordered()}
    for tenant in estate.tenants:
        ways = {f"tenant-{tenant.name}", f"budget-{tenant.name}"} & addresses
        assert ways == {f"tenant-{tenant.name}" if tenant.apply == "create" else f"budget-{tenant.name}"}


def test_rendered_workloads_leave_their_replicas_to_others(path: Path) -> None:
    for item in render(shipped(path)).wave(1).objects:
        assert "replicas" not in item.manifest.get("spec", {})


def test_triggers_are_flat_strings(path: Path) -> None:
    for item in render(shipped(path)).ordered():
        if isinstance(item, Step):
            assert all(type(value) is str for value in item.triggers.values()), item.address


def test_every_object_names_itself(path: Path) -> None:
    for item in render(shipped(path)).ordered():
        if isinstance(item, RenderedObject):
            assert {"apiVersion", "kind", "metadata"} <= set(item.manifest), item.address
            assert item.manifest["metadata"]["name"]
            assert "x-gpumem" not in item.manifest
