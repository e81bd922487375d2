"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.domain.plan_policy.rules import RULE, Rule


@dataclass(frozen=True, order=True)
class Finding:
    """One resource that breaks one rule.

    Attributes:
        plan: The plan file as the user named it.
        rule_id: Which rule.
        address: The resource; of an output or a provider, its name in the plan.
        place: Where in the resource; empty where it is the whole.
        value: What is there.
    """

    plan: str
    rule_id: str
    address: str
    place: str
    value: str

    @property
    def rule(self) -> Rule:
        """The rule itself."""
        return RULE[self.rule_id]

    def text(self) -> str:
        """Place, value, rule and repair in three lines, for a person."""
        where = f"{self.address}: {self.place}" if self.place else self.address
        return (
            f"{self.plan}: {where} = {self.value}\n"
            f"  rule:   {self.rule_id}: {self.rule.what}\n"
            f"  repair: {self.rule.repair}"
        )


@dataclass(frozen=True)
class PolicyReport:
    """All findings in order, and names given with --allow-delete that no plan deletes."""

    findings: tuple[Finding, ...]
    unused_allowances: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether the plans may be applied."""
        return not self.findings
