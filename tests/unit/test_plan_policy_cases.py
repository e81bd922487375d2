"""Every rule on small plans: cases that break it and cases that do not."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.plan_policy.check import check_plans
from helpers.domain.plan_policy.rules import RULES
from helpers.rendering.plan_file import parse_plan
from tests.fixtures.plan_documents import cases, documents

CASES = cases()


def verdict(case: dict[str, Any]) -> list[str]:
    plans = [parse_plan(document, name) for name, document in documents(case).items()]
    found = check_plans(plans, case.get("allow_delete", ())).findings
    return sorted(f"{one.plan} {one.rule_id} {one.address} {one.place}" for one in found)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_plan_breaks_exactly_the_rules_of_its_case(case: dict[str, Any]) -> None:
    assert verdict(case) == sorted(case["expect"])


def test_every_rule_is_broken_by_a_case_and_kept_by_another() -> None:
    broken = {line.split(" ")[1] for case in CASES for line in case["expect"]}
    assert broken == {rule.id for rule in RULES}
    clean = {case["name"].partition(":")[0] for case in CASES if not case["expect"]}
    assert clean == {case["name"].partition(":")[0] for case in CASES}
