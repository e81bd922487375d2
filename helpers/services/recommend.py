"""Budgets from measured use: what to suggest for an estate, whether it fits, and writing it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.domain.budget_change import Change, Fit, changes_from, check_fit, reserve_changes_from
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.telemetry.card_reserve import CardReserve, measure_reserve
from helpers.domain.watchdog.arming import ArmingReport, judge_arming
from helpers.domain.watchdog.recommendation import Recommendation, recommend_all
from helpers.domain.watchdog.replay import replay
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Trace
from helpers.services.trace_cards import kinds_by_name, models_by_size

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
    known = dict(kinds) if kinds is not None else kinds_by_name(estate, trace)
    recommendations = recommend_all(trace, {tenant.name: tenant.budget_mib for tenant in estate.tenants})
    reserves = measure_reserve(trace)
    changes: tuple[Change, ...] = changes_from(estate, recommendations)
    if with_reserves:
        changes = (*changes, *reserve_changes_from(estate, reserves, known, models_by_size(estate, trace, known)))
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
