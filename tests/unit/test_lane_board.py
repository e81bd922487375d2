"""What applications and workers are told about their lane."""

from __future__ import annotations

import json
from typing import Any

from helpers.domain.lanes.board import board, status
from helpers.domain.lanes.decision import judge_lanes
from helpers.domain.lanes.facts import Situation
from tests.fakes.lanes import NOON, queue, settings, situation

LANES = settings(batch_retry_seconds=300)


def told(lane: str, now: Situation, waits: dict[str, float | None] | None = None) -> dict[str, Any]:
    documents = board(LANES, judge_lanes(LANES, now), now.away, waits or {})
    found: dict[str, Any] = json.loads(documents[f"lane:{lane}"])
    return found


IDLE = situation(queue("realtime"), queue("batch"))
AWAY = situation(queue("realtime"), queue("batch"), away={"ollama": "node desk is NotReady"})


def test_a_batch_job_comes_again_after_five_minutes_while_the_card_is_away_and_outside_its_hours() -> None:
    assert told("batch", AWAY)["retry_after_seconds"] == 300
    noon = situation(queue("realtime"), queue("batch"), now_at=NOON)
    assert (told("batch", noon)["open"], told("batch", noon)["retry_after_seconds"]) == (False, 300)


def test_a_batch_job_that_only_yields_comes_again_soon() -> None:
    busy = situation(queue("realtime", active_count=1), queue("batch"))
    assert told("batch", busy)["retry_after_seconds"] == 5


def test_an_open_lane_says_what_to_do_with_a_job_that_meets_a_dead_server() -> None:
    assert (told("batch", IDLE)["open"], told("batch", IDLE)["away_retry_seconds"]) == (True, 300)


def test_realtime_is_told_how_long_and_for_whom_it_waits() -> None:
    assert told("realtime", IDLE, {"batch": 12.4})["wait_seconds"] == 12
    assert told("realtime", IDLE, {"batch": None})["wait_seconds"] is None
    assert told("realtime", IDLE)["wait_seconds"] is None, "nothing is known of it"
    assert told("realtime", IDLE)["waits_for"] == ["bull:ai-batch"]


def test_realtime_gets_the_reference_s_answer_while_the_card_is_away() -> None:
    document = told("realtime", AWAY)
    assert (document["open"], document["message"]) == (False, "AI service temporarily unavailable")
    assert document["retry_after_seconds"] == 30
    assert status(LANES, AWAY.away)["tenants"]["ollama"] == {"available": False, "why": "node desk is NotReady"}
    assert status(LANES, {}) == {"available": True, "tenants": {"ollama": {"available": True, "why": ""}}}
