"""Demand gates for tests: a training job at night on the first reference's card, and facts in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.domain.budget import WorkloadIdentity
from helpers.domain.demand_gates.decision import GateVerdict
from helpers.domain.demand_gates.facts import GateFacts, LeaseState, WorkloadFacts
from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.estate.demand_gates import DemandGate
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from tests.fakes.lanes import EVENING

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/demand-gates.md"
RELEASED = "gpumem.io/released-replicas"


def gate_rule(name: str = "training", **fields: Any) -> GateRule:
    """Need 5000, opens at 6280 free, closes under 1024; at once unless `fields` say otherwise."""
    kind = fields.pop("kind", "Deployment")
    namespace = fields.pop("namespace", "ai-dev")
    block = {"name": name, "tenant": name, "open_after_seconds": 0, "close_after_seconds": 0, "dry_run": False}
    return GateRule(
        gate=DemandGate.model_validate(block | fields),
        workload=WorkloadIdentity(tenant=name, namespace=namespace, kind=kind, workload=name),
        node="homelabai",
        need_mib=5000,
        margin_mib=1280,
        close_free_mib=1024,
        released_annotation=RELEASED,
        jobs_lane=fields.get("lane"),
    )


def gate_facts(workload: WorkloadFacts | None = None, **fields: Any) -> GateFacts:
    """Evening, closed, 8000 MiB free, one job, no lease."""
    block: dict[str, Any] = {
        "now_at": EVENING,
        "now_seconds": 1000.0,
        "workload": workload or WorkloadFacts(0, 0),
        "free_mib": 8000,
        "demand_count": 1,
        "lease": "none",
    }
    return GateFacts(**(block | fields))


class FakeGateLeases:
    """A book that tests write the answers of: `answers` is what `take` comes to."""

    def __init__(self, answers: LeaseState = "granted") -> None:
        self.answers = answers
        self.states: dict[str, LeaseState | None] = {}
        self.kept: list[str] = []

    def state(self, rule: GateRule) -> LeaseState | None:
        return self.states.get(rule.name, "none")

    def take(self, rule: GateRule) -> None:
        self.states[rule.name] = self.answers

    def keep(self, rule: GateRule) -> None:
        self.kept.append(rule.name)

    def give_back(self, rule: GateRule) -> None:
        self.states[rule.name] = "none"


class FakeGateMetrics:
    """Remembers the last verdict of each gate, and every act."""

    def __init__(self) -> None:
        self.verdicts: dict[str, GateVerdict] = {}
        self.runs: dict[str, bool | None] = {}
        self.acts: list[tuple[str, str, str]] = []

    def judged(self, verdict: GateVerdict, runs: bool | None) -> None:
        self.verdicts[verdict.gate] = verdict
        self.runs[verdict.gate] = runs

    def acted(self, gate: str, act: str, outcome: str) -> None:
        self.acts.append((gate, act, outcome))


def guide_text() -> str:
    """The estate of docs/guides/demand-gates.md."""
    return GUIDE.read_text().split("```yaml\n", 1)[1].split("```", 1)[0]


def guide_estate(**replaced: str) -> Estate:
    """That estate with each key's text replaced once by its value."""
    text = guide_text()
    for old, new in replaced.items():
        assert old in text, f"the guide's estate does not hold {old!r}"
        text = text.replace(old, new, 1)
    return parse_estate(text, "gpumem.yaml")[0]
