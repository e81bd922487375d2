"""The guide on plan checks, held against the table of rules and the commands that it shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.plan_policy.check import CAPACITY_RELEASE_ADDRESS
from helpers.domain.plan_policy.object_rules import is_pinned
from helpers.domain.plan_policy.plan import SEATED_OUTPUT
from helpers.domain.plan_policy.rules import RULES
from tests.fixtures.plan_documents import document

GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/plan-checks.md").read_text()


def test_the_table_is_the_table_of_rules() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", GUIDE, re.MULTILINE)
    assert rows == [(rule.id, rule.what, rule.why) for rule in RULES]


def test_checkov_has_the_rules_that_the_guide_says() -> None:
    said = GUIDE.partition("that can be judged from one:")[2].partition("Its file")[0]
    assert re.findall(r"`([a-z-]+)`", said) == [rule.id for rule in RULES if rule.looks_at == "resource"]


def test_the_names_and_images_in_it() -> None:
    assert f"`{CAPACITY_RELEASE_ADDRESS}`" in GUIDE
    assert f"`{SEATED_OUTPUT}`" in GUIDE
    moves, stays = re.findall(r"`(postgres:[^`]+)`", GUIDE)
    assert (is_pinned(moves), is_pinned(stays)) == (False, True)


def test_its_gpumem_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("0-nvidia.json", "1-consumers.json"):
        Path(name).write_text(json.dumps(document({"seated_mib": None})))
    lines = re.findall(r"^gpumem (.+)$", GUIDE, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        assert cli.run(shlex.split(line)) == 0, line
    assert sorted(path.name for path in Path("policy").iterdir()) == [
        "__init__.py",
        "gpumem.rego",
        "gpumem_plan.rego",
        "gpumem_plan_rules.py",
    ]
