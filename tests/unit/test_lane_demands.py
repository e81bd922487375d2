"""Jobs that somebody should start a worker for: what a demand gate, ours or KEDA's, goes by."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.lanes.decision import demands, judge_lanes
from helpers.domain.lanes.facts import QueueFacts
from helpers.domain.lanes.settings import CoordinatorSettings
from tests.fakes.lanes import EVENING, NIGHT, NOON, mark, queue, rule, settings, situation

TWO = settings(rule("realtime", "realtime"), rule("batch", windows=[NIGHT]))


def batch_demand(*facts: QueueFacts, of: CoordinatorSettings = TWO, **fields: Any) -> int | None:
    known = {one.queue for one in facts}
    others = [queue(name) for name in ("realtime", "batch") if f"ai-{name}" not in known]
    now = situation(*facts, *others, **fields)
    return demands(of, now, judge_lanes(of, now)).get("batch")


@pytest.mark.parametrize(
    ("facts", "fields", "count"),
    [
        ([queue("batch", wait_count=3)], {}, 3),
        ([queue("batch", wait_count=3, active_count=2)], {}, 5),
        ([queue("batch")], {}, 0),
        # Kept back by the window, by realtime work, by a person: only what runs already counts.
        ([queue("batch", wait_count=3, active_count=2)], {"now_at": NOON}, 2),
        ([queue("batch", wait_count=3), queue("realtime", active_count=1)], {}, 0),
        ([queue("batch", wait_count=3, paused=True)], {}, 0),
        ([queue("batch", paused_count=3, paused=True, active_count=1)], {}, 1),
        # Our own pause is no more than the lane's state.
        ([queue("batch", wait_count=3, paused=True, mark=mark("batch"))], {}, 3),
        # The server is away or the model is not loaded: perhaps because nobody has started it.
        ([queue("batch", wait_count=3)], {"away": {"ollama": "no answer"}}, 3),
        ([queue("batch", wait_count=3)], {"away": {"ollama": "no answer"}, "now_at": NOON}, 0),
        ([queue("batch", wait_count=3)], {"held": {"batch": "another model is loaded"}}, 3),
    ],
)
def test_how_many_jobs_ask_for_a_worker(facts: list[QueueFacts], fields: dict[str, Any], count: int) -> None:
    assert batch_demand(*facts, **fields) == count


def test_a_lane_with_a_queue_that_was_not_read_is_not_known() -> None:
    wider = settings(rule("batch", queues=["ai-batch", "ai-more"]))
    now = situation(queue("batch", wait_count=3), now_at=EVENING)
    assert demands(wider, now, judge_lanes(wider, now)) == {}
