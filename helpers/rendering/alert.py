"""What an alert is, and how Prometheus wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Alert:
    """One alerting rule. Texts are Prometheus templates; spans are seconds."""

    name: str
    expr: str
    severity: Literal["info", "warning", "critical"]
    summary: str
    description: str
    for_seconds: int = 0
    keep_firing_for_seconds: int = 0

    def rule(self, runbook_base_url: str) -> dict[str, Any]:
        """The rule in Prometheus's own form."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr}
        if self.for_seconds:
            rule["for"] = f"{self.for_seconds}s"
        if self.keep_firing_for_seconds:
            rule["keep_firing_for"] = f"{self.keep_firing_for_seconds}s"
        rule["labels"] = {"severity": self.severity}
        rule["annotations"] = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbook_base_url}/{self.name}.md",
        }
        return rule
