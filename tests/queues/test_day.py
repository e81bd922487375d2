"""A day in a minute: 10,000 mixed jobs on a real Redis, judged by Redis's own event streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.queues.day import Day, Outcome, as_json, live_through, oracle_delay_ms
from lab.redis_server import redis_server

# Bounds against one that does not react at all. The reaction's own is bench/coordinator_reaction.py's: here other
# tests may run beside, on two slow cores.
LATE_MS = 5000
MOST_DELAY_RATIO = 10
# On the scaled clock: a second of real time.
LEAD_SECONDS = 1440.0


def lived(folder: Path, *, helper: bool) -> Outcome:
    # Its file is not synced at every write: a disk's pace is no part of a scaled day.
    with redis_server(folder / "redis", durable=False) as server:
        outcome = live_through(server.url, folder, Day(lead_seconds=LEAD_SECONDS), helper=helper)
    print(as_json(outcome))
    assert outcome.jobs_count == 10_000
    assert (outcome.lost_count, outcome.run_twice_count) == (0, 0)
    assert outcome.in_working_hours_count == 0
    assert outcome.pauses_count >= 2
    assert 1 <= outcome.delay_ratio <= MOST_DELAY_RATIO
    return outcome


def test_without_the_helper_batch_begins_beside_realtime_only_within_the_reaction(tmp_path: Path) -> None:
    outcome = lived(tmp_path, helper=False)
    assert outcome.begun_after_the_pause_count == 0
    assert outcome.latest_beside_realtime_ms < LATE_MS


def test_with_the_helper_batch_never_begins_beside_realtime(tmp_path: Path) -> None:
    assert lived(tmp_path, helper=True).begun_beside_realtime_count == 0


def test_the_oracle_waits_for_realtime_and_for_the_window_and_for_nothing_else() -> None:
    assert oracle_delay_ms([10.0], 5, [], []) == 0
    assert oracle_delay_ms([10.0], 5, [(8, 12)], []) == 2
    assert oracle_delay_ms([10.0, 10.0], 5, [], []) == 5
    assert oracle_delay_ms([10.0], 5, [(8, 12), (12, 20)], [(15.0, 30.0)]) == 20
    assert oracle_delay_ms([10.0, 50.0], 5, [(0, 20)], []) == pytest.approx(10)
