"""Every file in tests/cases/recycling: facts in, decisions out."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.domain.watchdog.recycling import decide
from tests.cases.recycling.world import CASES, NOW, load_case, shown


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_case_is_decided_as_it_says(path: Path) -> None:
    case = load_case(path)
    decisions = decide(case.settings, case.samples, case.pods, case.history, NOW)
    assert tuple(map(shown, decisions)) == case.expect
    messages = "\n".join(decision.message() for decision in decisions)
    for text in case.texts:
        assert text in messages


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_order_of_the_facts_changes_nothing(path: Path) -> None:
    case = load_case(path)
    decisions = decide(case.settings, case.samples[::-1], case.pods[::-1], case.history[::-1], NOW)
    assert tuple(map(shown, decisions)) == case.expect
