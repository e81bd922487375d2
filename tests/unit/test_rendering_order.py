"""Addresses and order of what is rendered."""

from __future__ import annotations

import pytest

from helpers.rendering.objects import Rendered, RenderedObject, RenderingError, Step, Wave, address_of


def an_object(address: str, *after: str, wave: Wave = 0) -> RenderedObject:
    return RenderedObject(wave, "c", address, {"kind": "K"}, after=after)


def a_step(address: str, *after: str) -> Step:
    return Step(0, "c", address, ("verify",), {}, "create", after)


def addresses(rendered: Rendered) -> list[str]:
    return [item.address for item in rendered.ordered()]


def test_objects_and_steps_come_behind_what_they_are_after() -> None:
    rendered = Rendered((an_object("c", "b"), an_object("a")), (a_step("b", "a"),))
    assert addresses(rendered) == ["a", "b", "c"]


def test_what_waits_for_nothing_keeps_its_order_and_waves_follow_each_other() -> None:
    rendered = Rendered((an_object("z", wave=1), an_object("y"), an_object("x")))
    assert addresses(rendered) == ["y", "x", "z"]


def test_a_cycle_names_its_members() -> None:
    with pytest.raises(RenderingError, match="wait for each other: a, b"):
        addresses(Rendered((an_object("a", "b"), an_object("b", "a"), an_object("c"))))


def test_an_address_that_nothing_has_is_named() -> None:
    with pytest.raises(RenderingError, match="a is after gone"):
        addresses(Rendered((an_object("a", "gone"),)))


def test_one_address_twice_is_an_error_and_another_wave_has_its_own() -> None:
    with pytest.raises(RenderingError, match="one address: a"):
        addresses(Rendered((an_object("a"),), (a_step("a"),)))
    assert addresses(Rendered((an_object("a"), an_object("a", wave=1)))) == ["a", "a"]


def test_names_that_differ_by_a_dot_have_addresses_that_differ() -> None:
    """Terraform knows no dot in a name, and Kubernetes no underscore."""
    assert address_of("priority-class", "gpu.batch") == "priority-class-gpu_batch"
    assert address_of("priority-class", "gpu-batch") == "priority-class-gpu-batch"
    assert address_of("gate") == "gate"
