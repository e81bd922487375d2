"""Lanes and queues for tests: the second reference's estate, and facts in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from helpers.domain.estate.coordinator import Lane, Redis
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.lanes.facts import PauseMark, QueueFacts, Situation
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule

NIGHT = LaneWindow.model_validate({"from": "18:00", "to": "09:00", "time_zone": "Europe/Berlin"})
# 20:00 in Berlin: the night's window is open. 12:00: it is closed.
EVENING = datetime(2026, 11, 25, 19, 0, tzinfo=UTC)
NOON = datetime(2026, 11, 25, 11, 0, tzinfo=UTC)


def rule(name: str, lane_class: str = "batch", **fields: Any) -> LaneRule:
    room_mib = fields.pop("room_mib", 5120)
    need_mib = fields.pop("vram_mib", 4608)
    block = {"name": name, "queues": [f"ai-{name}"], "class": lane_class, "tenant": "ollama", "vram_mib": need_mib}
    lane = Lane.model_validate(block | fields)
    return LaneRule(lane=lane, need_mib=need_mib, room_mib=room_mib)


def settings(*rules: LaneRule, **fields: Any) -> CoordinatorSettings:
    """`rules` sorted as the estate's are; without any, the reference's two lanes."""
    chosen = rules or (rule("realtime", "realtime"), rule("batch", windows=[NIGHT]))
    block: dict[str, Any] = {
        "redis": Redis(url="redis://127.0.0.1:6379/0"),
        "prefix": "bull",
        "ttl_seconds": 15.0,
        "poll_seconds": 1.0,
        "retry_after_seconds": 30,
        "batch_retry_seconds": 300,
    }
    return CoordinatorSettings(lanes=tuple(sorted(chosen, key=lambda one: one.rank)), **(block | fields))


def queue(name: str, **fields: Any) -> QueueFacts:
    return QueueFacts(**({"queue": f"ai-{name}", "version": "bullmq:5.81.5"} | fields))


def mark(name: str, **fields: Any) -> PauseMark:
    block = {"queue": f"ai-{name}", "lane": name, "holder": "a", "reason": "window", "since_at": EVENING}
    return PauseMark(**(block | {"confirmed": True} | fields))


def situation(*facts: QueueFacts, **fields: Any) -> Situation:
    block: dict[str, Any] = {"now_at": EVENING, "now_seconds": 1000.0}
    return Situation(queues={one.queue: one for one in facts}, **(block | fields))
