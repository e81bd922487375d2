"""Replaying a recorded trace from a file: JSON Lines, or what Prometheus's query_range answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from helpers.domain.errors import InputError
from helpers.domain.watchdog.prometheus_trace import TRACE_SERIES, parse_range
from helpers.domain.watchdog.replay import Effect, ReplayReport, sweep
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Trace, parse_lines
from helpers.ports.clock import Clock
from helpers.ports.range_queries import RangeQueries

# Prometheus refuses a range query with more points a series than this.
_MOST_POINTS = 11_000


def load_trace(paths: Sequence[Path], settings: WatchdogSettings) -> Trace:
    """The trace in `paths`: one file of JSON Lines, or one or more Prometheus range answers.

    Raises:
        InputError: a file cannot be read or is neither, or several files of JSON Lines are named.
    """
    texts = [_read(path) for path in paths]
    names = ", ".join(map(str, paths))
    if texts and all(_is_range_answer(text) for text in texts):
        return parse_range(texts, names, settings)
    if len(texts) != 1:
        raise InputError(f"{names}: one file of JSON Lines, or Prometheus answers only. Name one kind.")
    return parse_lines(texts[0], names)


def fetched_trace(
    store: RangeQueries, clock: Clock, span: timedelta, step_seconds: int, settings: WatchdogSettings
) -> Trace:
    """The trace of the last `span`, as a Prometheus has it.

    Raises:
        InputError: the step is too fine for the span, or nothing of the exporter's was stored.
        DependencyError: no answer.
    """
    points_count = span.total_seconds() / step_seconds
    if points_count > _MOST_POINTS:
        least_seconds = int(span.total_seconds() // _MOST_POINTS) + 1
        raise InputError(
            f"{points_count:.0f} points a series are more than the {_MOST_POINTS} that Prometheus answers: "
            f"give --step-seconds {least_seconds} or fewer --days"
        )
    end = clock.now_at()
    texts = [store.query_range(series, end - span, end, step_seconds) for series in TRACE_SERIES]
    return parse_range(texts, "Prometheus", settings)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Name a trace.") from error


def _is_range_answer(text: str) -> bool:
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        # More than one line of JSON is no single document.
        return False
    return isinstance(document, dict) and ("data" in document or "resultType" in document)


def replay_choices(
    trace: Trace,
    settings: WatchdogSettings,
    *,
    floors_mib: Sequence[int] = (),
    cooldowns_seconds: Sequence[float] = (),
    effect: Effect | None = None,
) -> tuple[ReplayReport, ...]:
    """One report for each floor and cool-down; the estate's own where none is named."""
    floors = floors_mib or (settings.floor_mib,)
    return sweep(trace, settings, floors, cooldowns_seconds or (settings.cooldown_seconds,), effect)


def summary(report: ReplayReport) -> dict[str, Any]:
    """One report as plain data, for a table or `-o json`."""
    return {
        "floor_mib": report.floor_mib,
        "cooldown_seconds": report.cooldown_seconds,
        "cards": report.cards_count,
        "seen_minutes": round(report.seen_minutes, 2),
        "unknown_minutes": round(report.unknown_minutes, 2),
        "under_floor_minutes_without": round(report.under_floor_untouched_minutes, 2),
        "under_floor_minutes": round(report.under_floor_minutes, 2),
        "recycles": len(report.recycles),
        "false_recycles": len(report.false_recycles),
        "undecided_recycles": sum(recycle.needed is None for recycle in report.recycles),
        "refusals": {reason.value: count for reason, count in sorted(report.refusals.items())},
        "each": [
            {
                "at": recycle.at.isoformat(),
                "pod": str(recycle.decision.victim),
                "tenant": recycle.decision.victim.subject,
                "used_mib": recycle.decision.used_mib,
                "budget_mib": recycle.decision.budget_mib,
                "overshoot_mib": recycle.decision.overshoot_mib,
                "free_mib": recycle.decision.card.free_mib,
                "needed": recycle.needed,
                "evidence": recycle.evidence,
            }
            for recycle in report.recycles
        ],
    }
