"""The rules on plans as files that other tools take: Rego for conftest and OPA, a Python check for checkov."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from helpers.domain.plan_policy import check, object_rules, plan
from helpers.domain.plan_policy.rules import RULES

# Tool → the files that are written for it. checkov loads no check from a folder without an `__init__.py`.
EXPORTS = {"rego": ("gpumem.rego", "gpumem_plan.rego"), "checkov": ("gpumem_plan_rules.py", "__init__.py")}
_TEMPLATES = Path(__file__).with_name("plan_policies")


def export_rules(tool: str) -> dict[str, str]:
    """`{file: its whole text}` for `tool`, a key of EXPORTS."""
    context = {
        "rules": RULES,
        "checked_by_checkov": [rule for rule in RULES if rule.looks_at == "resource"],
        "objects": object_rules,
        "check": check,
        "plan": plan,
        "object_rules_source": inspect.getsource(object_rules),
    }
    return {file: _environment().get_template(f"{file}.j2").render(context) for file in EXPORTS[tool]}


@cache
def _environment() -> Environment:
    # No escaping: a value goes through a filter of the target's own, or is the target's text.
    environment = Environment(  # noqa: S701 - no HTML
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["raw"] = _raw
    return environment


def _raw(value: Any) -> str:
    """A regular expression as a Rego raw string."""
    return f"`{value}`"
