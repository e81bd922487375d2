"""The order of folders is Terraform's order of steps, and nothing waits for pods."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from helpers.rendering.gitops_stages import Stage, stages
from helpers.rendering.gitops_steps import with_step_rights
from helpers.rendering.objects import Rendered, RenderedObject, RenderingError, Step
from helpers.rendering.render import render
from tests.synth.estates import SHIPPED, shipped


def thing(address: str, *after: str, kind: str = "ConfigMap", version: str = "v1") -> RenderedObject:
    manifest: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": {"name": address}}
    return RenderedObject(0, "x", address, manifest, after=after)


def step(address: str, *after: str, on: Any = "create") -> Step:
    return Step(0, "x", address, ("verify",), {}, on, after)


def members(of: Stage | Rendered) -> tuple[RenderedObject | Step, ...]:
    return (*of.objects, *of.steps)


def folders(*items: RenderedObject | Step) -> dict[str, set[str]]:
    rendered = Rendered(
        tuple(item for item in items if isinstance(item, RenderedObject)),
        tuple(item for item in items if isinstance(item, Step)),
    )
    return {
        stage.folder.removeprefix("0-nvidia/"): {item.address for item in members(stage)} for stage in stages(rendered)
    }


def test_a_step_that_others_wait_for_divides_and_one_for_which_nobody_waits_comes_last() -> None:
    found = folders(thing("a"), step("s", "a"), thing("b", "s"), step("alone", "s"))
    assert found == {"0-objects": {"a"}, "1-steps": {"s"}, "2-objects": {"b"}, "3-tenant-steps": {"alone"}}


def test_a_step_for_destroy_passes_the_order_on_and_is_in_no_folder() -> None:
    found = folders(step("first"), step("undo", "first", on="destroy"), step("second", "undo"), thing("b", "second"))
    assert found == {"0-steps": {"first"}, "1-steps": {"second"}, "2-objects": {"b"}}


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("Deployment", "apps/v1"),
        ("CronJob", "batch/v1"),
        ("NodePool", "karpenter.sh/v1"),
        ("Queue", "kueue.x-k8s.io/v1"),
    ],
)
def test_what_may_be_unhealthy_for_long_comes_last_and_what_follows_it_too(kind: str, version: str) -> None:
    found = folders(thing("a", kind=kind, version=version), thing("b", "a"), thing("c"))
    assert found == {"0-objects": {"c"}, "1-workloads": {"a", "b"}}


def test_a_kind_of_kubernetes_own_groups_does_not() -> None:
    assert folders(thing("a", kind="NetworkPolicy", version="networking.k8s.io/v1")) == {"0-objects": {"a"}}


def test_a_step_that_would_hold_others_until_pods_run_is_a_fault() -> None:
    with pytest.raises(RenderingError, match="wait for pods"):
        folders(thing("a", kind="Deployment", version="apps/v1"), step("s", "a"), thing("b", "s"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_in_every_estate_each_thing_is_in_one_folder_and_none_before_a_step_that_it_waits_for(path: Any) -> None:
    estate = shipped(path)
    rendered = with_step_rights(estate, render(estate))
    order = stages(rendered)
    for wave in (0, 1, 2):
        at = {item.address: stage.number for stage in order if stage.wave == wave for item in members(stage)}
        mine = rendered.wave(wave)
        wanted = [item.address for item in members(mine) if not (isinstance(item, Step) and item.on == "destroy")]
        assert sorted(item.address for stage in order if stage.wave == wave for item in members(stage)) == sorted(
            wanted
        )
        steps = {step.address: step for step in mine.steps}
        for item in members(mine):
            for before in item.after if item.address in at else ():
                # Through a step that runs at destroy, to what stands before it.
                reached = (before,) if before in at else steps[before].after
                assert all(at[one] + (one in steps) <= at[item.address] for one in reached), item.address
    assert all(a.wave < b.wave or a.number < b.number for a, b in itertools.pairwise(order))
