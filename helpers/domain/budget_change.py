"""Changing budgets and reserves in an estate: does the result still fit, and if not, who would have to give?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.domain.errors import Problem
from helpers.domain.estate.checks import check_estate
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.telemetry.card_reserve import CardReserve
from helpers.domain.watchdog.recommendation import Recommendation


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One tenant's `budget_mib`."""

    tenant: str
    from_mib: int
    to_mib: int


@dataclass(frozen=True, slots=True)
class ReserveChange:
    """The `reserve_mib` of one model's cards on one node entry."""

    node: str
    model: str
    from_mib: int
    to_mib: int


Change = BudgetChange | ReserveChange


@dataclass(frozen=True, slots=True)
class Giver:
    """A tenant that could give. `measured` says that its own recommendation leaves `spare_mib`.

    Without a measurement `spare_mib` is its whole sum: it can only be lowered, moved or made elastic.
    """

    tenant: str
    budget_mib: int
    spare_mib: int
    measured: bool

    def __str__(self) -> str:
        """`llama-swap (budget 5000, 2100 MiB over its measured need)`."""
        if self.measured:
            return f"{self.tenant} (budget {self.budget_mib}, {self.spare_mib} MiB over its measured need)"
        return f"{self.tenant} (budget {self.budget_mib}, elastic: true would free {self.spare_mib} MiB)"


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether an estate with the changes holds. `givers` is `{node: who could give, most first}`."""

    estate: Estate
    problems: tuple[Problem, ...]
    givers: Mapping[str, tuple[Giver, ...]]

    @property
    def fits(self) -> bool:
        """No error; warnings are shown and accepted."""
        return not self.problems

    def message(self) -> str:
        """Every rule that breaks, then who would have to give on each node."""
        lines = [f"{problem.path}: {problem.rule}" for problem in self.problems]
        lines += [f"on {node} could give: {', '.join(map(str, givers))}" for node, givers in self.givers.items()]
        return "\n".join(lines)


def changes_from(estate: Estate, recommendations: Sequence[Recommendation]) -> tuple[BudgetChange, ...]:
    """The changes that `recommendations` suggest, in the estate's order; what is right already is left out."""
    suggested = {item.tenant: item.suggested_mib for item in recommendations if item.suggested_mib is not None}
    return tuple(
        BudgetChange(tenant.name, tenant.budget_mib, suggested[tenant.name])
        for tenant in estate.tenants
        if suggested.get(tenant.name, tenant.budget_mib) != tenant.budget_mib
    )


def reserve_changes_from(
    estate: Estate, reserves: Sequence[CardReserve], kinds: Mapping[str, str], models: Mapping[str, str]
) -> tuple[ReserveChange, ...]:
    """The changes that measured reserves ask for: per node entry and model the largest of its cards.

    `kinds` is `{Kubernetes node: node entry}`, `models` is `{card uuid: model}`; a card in neither
    is left out, since nothing in the file speaks of it. A reserve is only ever raised: memory that
    was not used in the time seen may be used tomorrow.
    """
    largest: dict[tuple[str, str], int] = {}
    for reserve in reserves:
        key = (kinds.get(reserve.card.rpartition("/")[0], ""), models.get(reserve.uuid, ""))
        if reserve.suggested_mib is not None:
            largest[key] = max(largest.get(key, 0), reserve.suggested_mib)
    return tuple(
        ReserveChange(node.name, gpu.model, gpu.reserve_mib, largest[node.name, gpu.model])
        for node in estate.nodes
        for gpu in node.gpus
        if largest.get((node.name, gpu.model), 0) > gpu.reserve_mib
    )


def with_changes(estate: Estate, changes: Sequence[Change]) -> Estate:
    """`estate` with the new numbers, checked by nobody yet."""
    budgets = {change.tenant: change.to_mib for change in changes if isinstance(change, BudgetChange)}
    reserves = {(c.node, c.model): c.to_mib for c in changes if isinstance(c, ReserveChange)}
    tenants = tuple(
        tenant.model_copy(update={"budget_mib": budgets.get(tenant.name, tenant.budget_mib)})
        for tenant in estate.tenants
    )
    nodes = tuple(
        node.model_copy(
            update={
                "gpus": tuple(
                    gpu.model_copy(update={"reserve_mib": reserves.get((node.name, gpu.model), gpu.reserve_mib)})
                    for gpu in node.gpus
                )
            }
        )
        for node in estate.nodes
    )
    return estate.model_copy(update={"tenants": tenants, "nodes": nodes})


def check_fit(estate: Estate, changes: Sequence[Change], recommendations: Sequence[Recommendation] = ()) -> Fit:
    """Whether `estate` holds with `changes`, and who could give where it does not."""
    changed = with_changes(estate, changes)
    known = {(problem.path, problem.rule) for problem in check_estate(estate)}
    found = [problem for problem in check_estate(changed) if problem.severity == "error"]
    # What was wrong before is not this change's doing; validate says it.
    problems = tuple(problem for problem in found if (problem.path, problem.rule) not in known)
    if not problems:
        return Fit(changed, (), {})
    raised = {
        change.tenant for change in changes if isinstance(change, BudgetChange) and change.to_mib > change.from_mib
    }
    touched = {tenant.node for tenant in changed.tenants if tenant.name in raised}
    touched |= {change.node for change in changes if isinstance(change, ReserveChange)}
    needs = {item.tenant: item.suggested_mib for item in recommendations}
    givers = {node: _givers(changed, node, raised, needs) for node in sorted(touched)}
    return Fit(changed, problems, givers)


def _givers(estate: Estate, node: str, raised: set[str], needs: Mapping[str, int | None]) -> tuple[Giver, ...]:
    others = [t for t in estate.tenants if t.node == node and t.name not in raised and not t.elastic]
    givers = [_giver(estate, tenant, needs.get(tenant.name)) for tenant in others]
    return tuple(sorted(givers, key=lambda giver: (not giver.measured, -giver.spare_mib, giver.tenant)))


def _giver(estate: Estate, tenant: Tenant, need_mib: int | None) -> Giver:
    if need_mib is not None and need_mib < tenant.budget_mib:
        return Giver(tenant.name, tenant.budget_mib, tenant.budget_mib - need_mib, measured=True)
    return Giver(tenant.name, tenant.budget_mib, tenant.budget_mib * estate.pods_count(tenant), measured=False)
