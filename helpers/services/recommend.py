"""Budgets from measured use: what to suggest for an estate, whether it fits, and writing it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.domain.budget_change import Change, Fit, changes_from, check_fit, reserve_changes_from
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.telemetry.card_reserve import CardReserve, measure_reserve
from helpers.domain.watchdog.arming import ArmingReport, judge_arming
from helpers.domain.watchdog.recommendation import Recommendation, recommend_all
from helpers.domain.watchdog.replay import replay
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Trace

# nvidia-smi's total and the data sheet's differ by a few MiB (ECC, firmware).
_SAME_CARD_RATIO = 0.03

# `rendering.estate_edit.edit_file`, or what stands in for it.
EstateEditor = Callable[[Path, Sequence[Change]], bool]


@dataclass(frozen=True, slots=True)
class Advice:
    """What was measured and what follows. `changes` are only those that have a suggestion."""

    recommendations: tuple[Recommendation, ...]
    reserves: tuple[CardReserve, ...]
    changes: tuple[Change, ...]
    fit: Fit


def advise(
    estate: Estate, trace: Trace, *, kinds: Mapping[str, str] | None = None, with_reserves: bool = True
) -> Advice:
    """What `trace` says of `estate`.

    `kinds` is `{Kubernetes node: node entry}` as a cluster's labels tell it; without it only entries
    with node_name, or the only entry, are known.
    """
    known = dict(kinds) if kinds is not None else _kinds_by_name(estate, trace)
    recommendations = recommend_all(trace, {tenant.name: tenant.budget_mib for tenant in estate.tenants})
    reserves = measure_reserve(trace)
    changes: tuple[Change, ...] = changes_from(estate, recommendations)
    if with_reserves:
        changes = (*changes, *reserve_changes_from(estate, reserves, known, _models(estate, trace, known)))
    return Advice(recommendations, reserves, changes, check_fit(estate, changes, recommendations))


def write_advice(path: Path, advice: Advice, edit: EstateEditor) -> bool:
    """Write the changes into the estate file; whether anything changed.

    Raises:
        CheckFailed: the changes do not fit; the message says who could give.
        InputError: see `rendering.estate_edit.edit_file`.
    """
    if not advice.fit.fits:
        raise CheckFailed(f"{path}: not written, it would not fit:\n{advice.fit.message()}")
    return edit(path, advice.changes) if advice.changes else False


def arm(settings: WatchdogSettings, trace: Trace) -> ArmingReport:
    """Whether the watchdog of `settings` may be armed, from what was recorded while it ran dry."""
    budgets = {rule.name: rule.budget_mib for rule in settings.tenants if rule.budget_mib is not None}
    return judge_arming(settings, replay(trace, settings), recommend_all(trace, budgets))


def _kinds_by_name(estate: Estate, trace: Trace) -> dict[str, str]:
    seen = {sample.node for frame in trace for sample in frame.samples}
    named = {node.node_name: node.name for node in estate.nodes if node.node_name is not None}
    only = estate.nodes[0].name if len(estate.nodes) == 1 else None
    found = {node: named.get(node, only) for node in seen}
    return {node: entry for node, entry in found.items() if entry is not None}


def _models(estate: Estate, trace: Trace, kinds: Mapping[str, str]) -> dict[str, str]:
    """`{card uuid: model}` by the card's own size, since samples do not name models."""
    entries = {node.name: node for node in estate.nodes}
    found: dict[str, str] = {}
    for frame in trace:
        for sample in frame.samples:
            entry = entries.get(kinds.get(sample.node, ""))
            if sample.uuid not in found and entry is not None and sample.total_mib is not None:
                model = _model_of_size(entry, sample.total_mib)
                if model is not None:
                    found[sample.uuid] = model
    return found


def _model_of_size(entry: Node, total_mib: int) -> str | None:
    same = [g.model for g in entry.gpus if abs(g.physical_mib - total_mib) <= g.physical_mib * _SAME_CARD_RATIO]
    return same[0] if len(same) == 1 else None
