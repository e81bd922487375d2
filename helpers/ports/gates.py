"""What demand gates work with besides the cluster: the book of leases, and what they count."""

from __future__ import annotations

from typing import Protocol

from helpers.domain.demand_gates.decision import GateVerdict
from helpers.domain.demand_gates.facts import LeaseState
from helpers.domain.demand_gates.rules import GateRule


class GateLeases(Protocol):
    """One lease a gate, held in the gate's name: whoever leads next finds it again."""

    def state(self, rule: GateRule) -> LeaseState | None:
        """What the book says of the gate's lease; None where it does not answer."""
        ...

    def take(self, rule: GateRule) -> None:
        """Asks for it, or shows that it is still waited for."""
        ...

    def keep(self, rule: GateRule) -> None:
        """Renews it."""
        ...

    def give_back(self, rule: GateRule) -> None:
        """Ends it, or takes the question back."""
        ...


class GateMetrics(Protocol):
    """Gates and what was done to them."""

    def judged(self, verdict: GateVerdict, runs: bool | None) -> None:
        """One verdict, and whether the workload has a replica; None: not known."""
        ...

    def acted(self, gate: str, act: str, outcome: str) -> None:
        """One scaling: `done`, `failed`, `overtaken` (somebody changed the workload first) or `dry_run`."""
        ...
