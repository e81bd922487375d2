"""Every bad estate under tests/cases/bad_estates is refused with exactly the message beside it."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.domain.errors import EstateInvalid
from helpers.rendering.estate_file import parse_estate

CASES = Path(__file__).parents[1] / "cases" / "bad_estates"
FILES = sorted(CASES.glob("*.yaml"))
RULE_CALLS = ("Problem", "broken_rule")
RULE_MODULES = [
    importlib.import_module(f"helpers.domain.{name}")
    for name in (
        "estate.admission",
        "estate.admission_checks",
        "estate.arithmetic",
        "estate.base",
        "estate.budget_alerts",
        "estate.budget_checks",
        "estate.checks",
        "estate.coordinator",
        "estate.demand_gates",
        "estate.gate_checks",
        "estate.health",
        "estate.gpu_operator",
        "estate.gpu_operator_checks",
        "estate.lane_checks",
        "estate.lease_checks",
        "estate.elastic_places",
        "estate.framework",
        "estate.gitops",
        "estate.job_checkpoints",
        "estate.manager_platform_checks",
        "estate.mig",
        "estate.mig_cards",
        "estate.node_pools",
        "estate.project_limits",
        "estate.project_network",
        "estate.manager",
        "estate.nodes",
        "estate.pod_checks",
        "estate.prices",
        "estate.review",
        "estate.talos",
        "estate.talos_checks",
        "estate.tenant_labels",
        "estate.tenants",
        "estate.texts",
        "estate.state_backend",
        "estate.watchdog",
        "estate.watchdog_checks",
        "estate.windows",
    )
]


def refusal(file: Path) -> EstateInvalid:
    with pytest.raises(EstateInvalid) as raised:
        parse_estate(file.read_text(encoding="utf-8"), file.name)
    return raised.value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_bad_estate_is_refused_with_its_exact_message(file: Path) -> None:
    refused = refusal(file)
    assert f"{refused}\n" == file.with_suffix(".expected").read_text(encoding="utf-8")
    lines_count = len(file.read_text(encoding="utf-8").splitlines()) or 1
    for problem in refused.problems:
        assert 1 <= problem.line <= lines_count
        assert problem.column >= 1
        assert all((problem.path, problem.rule, problem.repair))


def test_there_are_enough_cases_and_each_has_its_message() -> None:
    assert len(FILES) >= 45
    assert {file.stem for file in FILES} == {file.stem for file in CASES.glob("*.expected")}


def rule_sites(module: ModuleType) -> Iterator[tuple[str, int]]:
    """Every place in `module` where a rule says no."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RULE_CALLS:
            yield (module.__name__, node.lineno)


def test_every_rule_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    hit: set[tuple[str, int]] = set()

    def recording(original: Callable[..., Any], module: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            hit.add((module, sys._getframe(1).f_lineno))
            return original(*args, **kwargs)

        return call

    for module in RULE_MODULES:
        for name in RULE_CALLS:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, recording(getattr(module, name), module.__name__))
    for file in FILES:
        refusal(file)
    known = {site for module in RULE_MODULES for site in rule_sites(module)}
    assert len(known) > 40
    assert sorted(known - hit) == []
