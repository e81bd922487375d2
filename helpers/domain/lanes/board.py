"""What applications and their workers are told: one document a lane, and one for all. Pure.

`lane:<name>` is read by the worker-side helpers, whose script looks at the rivals' lists itself, in
one step with its own start, so that no batch job begins beside a realtime one. `status` is what an
application shows its users while the card is away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.domain.lanes.decision import LaneReason, LaneVerdict
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule

UNAVAILABLE = "AI service temporarily unavailable"
STATUS_KEY = "status"
_LEAST_RETRY_SECONDS = 1.0


def lane_key(lane: str) -> str:
    """Its key, below `gpumem:`."""
    return f"lane:{lane}"


def board(
    settings: CoordinatorSettings,
    verdicts: Sequence[LaneVerdict],
    away: Mapping[str, str],
    waits: Mapping[str, float | None],
) -> dict[str, str]:
    """`{key below gpumem:: JSON}`; the same state gives the same text.

    `waits`: `{lane: seconds}` that its running jobs still take; None or absent: unknown.
    """
    documents = {STATUS_KEY: status(settings, away)}
    for rule, verdict in zip(settings.lanes, verdicts, strict=True):
        documents[lane_key(rule.name)] = _lane(settings, rule, verdict, waits)
    return {key: json.dumps(document, sort_keys=True) for key, document in documents.items()}


def status(settings: CoordinatorSettings, away: Mapping[str, str]) -> dict[str, Any]:
    """Whether the cards are there, for applications; the reference's own words where one is not."""
    tenants = {rule.lane.tenant for rule in settings.lanes}
    document: dict[str, Any] = {
        "available": not away,
        "tenants": {
            tenant: {"available": tenant not in away, "why": away.get(tenant, "")} for tenant in sorted(tenants)
        },
    }
    if away:
        document |= {"message": UNAVAILABLE, "retry_after_seconds": settings.retry_after_seconds}
    return document


def _lane(
    settings: CoordinatorSettings, rule: LaneRule, verdict: LaneVerdict, waits: Mapping[str, float | None]
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "lane": rule.name,
        "open": verdict.open,
        "reason": verdict.reason.value,
        "retry_after_seconds": _retry_after_seconds(settings, rule, verdict),
        "yields_to": _bases(settings, settings.rivals(rule) if rule.is_batch else ()),
    }
    if verdict.reason is LaneReason.AWAY:
        document["message"] = UNAVAILABLE
    if rule.is_batch:
        # For a job that meets a dead server before the lane is closed for it.
        document["away_retry_seconds"] = settings.batch_retry_seconds
    else:
        behind = [other for other in settings.lanes if other.is_batch and rule in settings.rivals(other)]
        document["waits_for"] = _bases(settings, behind)
        known = [waits.get(other.name) for other in behind]
        longest = None if any(wait is None for wait in known) else max((wait or 0.0 for wait in known), default=0.0)
        document["wait_seconds"] = None if longest is None else round(longest)
    return document


def _retry_after_seconds(settings: CoordinatorSettings, rule: LaneRule, verdict: LaneVerdict) -> float:
    if not rule.is_batch:
        return settings.retry_after_seconds
    if verdict.reason in (LaneReason.AWAY, LaneReason.WINDOW):
        return settings.batch_retry_seconds
    return max(_LEAST_RETRY_SECONDS, rule.lane.settle_seconds)


def _bases(settings: CoordinatorSettings, rules: Sequence[LaneRule]) -> list[str]:
    return [f"{settings.prefix}:{queue}" for rule in rules for queue in rule.lane.queues]
