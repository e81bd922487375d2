"""What the guides on workflows and images say is what stands in the files."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.fixtures.workflows import steps, workflow

ROOT = Path(__file__).resolve().parents[2]
CI = (ROOT / "docs/guides/ci.md").read_text()
IMAGES = (ROOT / "docs/guides/images.md").read_text()
CONTAINERFILE = (ROOT / "Containerfile").read_text()
REVIEW = workflow("estate-review")


def test_the_steps_of_the_table_are_the_workflows() -> None:
    said = re.findall(r"^\| ([A-Z][\w ]+) \|", CI, re.MULTILINE)
    named = [step.get("name") for job in ("check", "comment") for step in steps(REVIEW, job)]
    assert [name for name in named if name in said] == said


def test_every_input_is_in_the_guide_and_the_required_ones_in_its_example() -> None:
    inputs = REVIEW["on"]["workflow_call"]["inputs"]
    line = CI.partition("- Inputs: ")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", line) == list(inputs)
    example, hook = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", CI, re.DOTALL))
    call = example["jobs"]["gpumem"]
    assert set(call["with"]) == {name for name, one in inputs.items() if one.get("required")}
    assert set(call["secrets"]) == set(REVIEW["on"]["workflow_call"]["secrets"])
    wanted = {scope: right for job in REVIEW["jobs"].values() for scope, right in job["permissions"].items()}
    assert call["permissions"] == wanted
    offered = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [one["id"] for one in hook["repos"][0]["hooks"]] == [one["id"] for one in offered]


def test_the_review_is_called_as_the_guide_says() -> None:
    (line,) = [step["run"] for step in steps(REVIEW, "check") if step.get("name") == "Review"]
    assert 'gpumem review --base "$OUT/base.yaml" -f "$ESTATE" -o markdown' in line
    assert "`gpumem review --base BASE -f ESTATE -o markdown`" in CI


def test_targets_user_and_places_of_the_image() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE)
    said = IMAGES.partition("builds `--target ")[2].partition(": the same layers")[0]
    assert set(re.findall(r"[a-z-]+(?=`)", said)) == set(targets) - {"build", "bullmq", "runtime", "helpers"}
    assert "user and group " + re.findall(r"USER (\d+):", CONTAINERFILE)[0] in IMAGES
    assert "/opt/gpumem/sbom.cdx.json" in CONTAINERFILE
    with_node = re.findall(r"only `(\w+)` and `(\w+)` have Node", IMAGES)
    assert with_node == [("coordinator", "helpers")]
