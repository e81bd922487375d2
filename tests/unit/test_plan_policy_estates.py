"""What the project itself renders breaks none of its rules on objects and triggers."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.domain.dra.naming import DRIVER
from helpers.domain.plan_policy.check import CAPACITY_RELEASE_ADDRESS
from helpers.domain.plan_policy.object_rules import HOST_ALLOWANCES, object_faults, trigger_faults
from helpers.domain.plan_policy.plan import CAPACITY_STEP, CONSUMER_STEPS, GATE_STEP
from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render

ROOT = Path(__file__).resolve().parents[2]
ESTATES = [ROOT / "gpumem.yaml", *sorted((ROOT / "estates").glob("*.yaml"))]


@pytest.mark.parametrize("file", ESTATES, ids=lambda file: file.stem)
def test_a_shipped_estate_breaks_no_rule_on_an_object_or_a_trigger(file: Path) -> None:
    rendered = render(load_estate(file)[0])
    faults = [(item.address, fault) for item in rendered.objects for fault in object_faults(item.manifest)]
    faults += [(step.address, fault) for step in rendered.steps for fault in trigger_faults(step.triggers)]
    assert faults == []


def test_the_steps_that_the_rules_know_are_those_that_are_rendered() -> None:
    steps = render(load_estate(ESTATES[0])[0]).steps
    assert {GATE_STEP, CAPACITY_STEP, *CONSUMER_STEPS} <= {step.arguments for step in steps}
    assert CAPACITY_RELEASE_ADDRESS in {f"null_resource.{step.address}" for step in steps}


def test_the_agent_of_claims_has_its_own_driver_folder() -> None:
    """The rules import nothing, so that they can be exported; the driver's name stands there a second time."""
    (agent,) = [one for one in HOST_ALLOWANCES if one.name_prefix == "gpumem-dra-agent"]
    assert f"/var/lib/kubelet/plugins/{DRIVER}" in agent.paths
