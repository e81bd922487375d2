"""The coordinator as a process of its own, on a real Redis, with applications of each BullMQ major."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis

from helpers.adapters.redis_.board import LEADER_KEY, mark_key
from helpers.domain.estate.windows import LaneWindow
from lab.queues.apps import app, wait_until
from lab.queues.coordinators import CoordinatorProcess, coordinator
from lab.redis_server import RedisServer
from tests.queues.scene import SETTLE_SECONDS, is_paused, lanes, sees_again, sees_nothing, started, warm_scene


@pytest.mark.parametrize("major", [4, 5, 6])
def test_batch_waits_while_realtime_works_and_every_job_ends_once(
    major: int, redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with warm_scene(redis_box, tmp_path, major=major) as scene:
        application, running = scene.application, scene.running
        application.add("ai-batch", *range(1, 41), ms=50)
        application.add("ai-realtime", 1, ms=1000)
        wait_until(lambda: is_paused(client), "batch is paused")
        assert json.loads(str(client.get(mark_key("ai-batch"))))["lane"] == "batch"
        application.add("ai-batch", *range(41, 51), ms=5)
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        wait_until(lambda: len(application.ended("ai-batch")) == 51, "batch has ended")
        assert sorted(application.ended("ai-batch")) == list(range(51))
        wait_until(lambda: client.get(mark_key("ai-batch")) is None, "its mark is taken away after the pause")
        assert {line["client"] for line in running.of("queue_paused")} == {str(major)}
        (realtime,) = [
            one
            for one in application.did
            if one["event"] == "ended" and one["job"] == 1 and one["queue"] == "ai-realtime"
        ]
        resumed = [
            one
            for one in application.did
            if one["queue"] == "ai-batch" and one["event"] == "began" and one["at"] > realtime["at"]
        ]
        assert resumed[0]["at"] - realtime["at"] >= SETTLE_SECONDS * 1000


def test_a_burst_of_short_realtime_jobs_is_one_pause_and_not_many(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    # A stall of the producer shorter than this is a burst still.
    with warm_scene(redis_box, tmp_path, lanes(redis_box.url, settle_seconds=3.0)) as scene:
        application, running = scene.application, scene.running
        before = len(running.of("queue_paused"))
        jobs = [{"queue": "ai-realtime", "at": n * 100, "data": {"n": n, "ms": 5}} for n in range(1, 21)]
        application.send("play", jobs=jobs)
        wait_until(lambda: len(application.ended("ai-realtime")) == 21, "the burst has ended")
        wait_until(lambda: not is_paused(client), "resumed")
        assert len(running.of("queue_paused")) - before == 1


def test_what_a_person_paused_stays_paused_and_unmarked(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with warm_scene(redis_box, tmp_path) as scene:
        application, running = scene.application, scene.running
        application.ask("pause", queue="ai-batch")
        application.add("ai-realtime", 1, ms=200)
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        time.sleep(3 * SETTLE_SECONDS)
        assert is_paused(client)
        assert client.get(mark_key("ai-batch")) is None
        assert running.of("queue_left_alone")


def test_a_person_who_pauses_what_is_paused_already_takes_it_over(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with warm_scene(redis_box, tmp_path) as scene:
        application, running = scene.application, scene.running
        application.add("ai-realtime", 1, ms=6000)
        wait_until(lambda: json.loads(str(client.get(mark_key("ai-batch")) or "{}")).get("confirmed", False), "ours")
        time.sleep(0.2)
        application.ask("pause", queue="ai-batch")
        wait_until(lambda: bool(running.of("pause_taken_over")), "noticed")
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        time.sleep(3 * SETTLE_SECONDS)
        assert is_paused(client)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Not even the key of who leads: it must not keep a coordinator that does something from leading."""
    declared = lanes(redis_box.url).model_copy(update={"dry_run": True})
    with app(redis_box.url, 5) as application, coordinator(declared, tmp_path) as running:
        started(application)
        application.add("ai-realtime", 1, ms=1000)
        wait_until(lambda: client.llen("bull:ai-realtime:active") == 1, "realtime is active")
        application.add("ai-batch", 1, 2)
        wait_until(lambda: application.ended("ai-batch") == [0, 1, 2], "batch goes on beside it")
        wait_until(lambda: bool(running.of("would_pause")), "said")
        assert not is_paused(client)
        assert client.keys("gpumem:*") == []
        assert {line["dry_run"] for line in running.log} == {True}


def test_queues_of_no_lane_are_never_touched(redis_box: RedisServer, client: redis.Redis, tmp_path: Path) -> None:
    with app(redis_box.url, 5) as application, coordinator(lanes(redis_box.url), tmp_path):
        application.add("rfa-reminders", 1)
        before = client.hgetall("bull:rfa-reminders:meta"), client.xlen("bull:rfa-reminders:events")
        started(application)
        application.add("ai-realtime", 1, ms=300)
        wait_until(lambda: is_paused(client), "batch is paused")
        wait_until(lambda: not is_paused(client), "and resumed")
        assert (client.hgetall("bull:rfa-reminders:meta"), client.xlen("bull:rfa-reminders:events")) == before


def test_killed_the_next_one_takes_its_pause_over_and_resumes(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with warm_scene(redis_box, tmp_path / "a") as scene:
        application = scene.application
        standby = CoordinatorProcess(lanes(redis_box.url), tmp_path / "b")
        try:
            wait_until(lambda: bool(standby.of("http_served")), "the standby runs")
            application.add("ai-realtime", 1, ms=3000)
            wait_until(lambda: is_paused(client), "paused by the first")
            assert not standby.of("leadership_won")
            scene.running.kill()
            wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
            application.add("ai-batch", 1, 2, 3)
            wait_until(lambda: bool(standby.of("queue_resumed")), "resumed by the next")
            wait_until(lambda: sorted(application.ended("ai-batch")) == [0, 1, 2, 3], "batch has ended")
            assert client.get(mark_key("ai-batch")) is None
        finally:
            standby.kill()


def test_killed_in_working_hours_and_started_again_in_the_evening_batch_runs(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """With no coordinator left, the next start resumes what an earlier one paused."""
    closed = lanes(redis_box.url, windows=[never_now()])
    with app(redis_box.url, 5) as application:
        started(application)
        with coordinator(closed, tmp_path / "a"):
            wait_until(lambda: is_paused(client), "paused outside its window")
        wait_until(lambda: client.get(LEADER_KEY) is None, "nobody leads any more")
        application.add("ai-batch", 1, 2)
        assert is_paused(client)
        with coordinator(lanes(redis_box.url), tmp_path / "b"):
            wait_until(lambda: sorted(application.ended("ai-batch")) == [0, 1, 2], "batch has ended")


def never_now() -> LaneWindow:
    hour = (time.gmtime().tm_hour + 12) % 24
    return LaneWindow.model_validate({"from": f"{hour:02}:00", "to": f"{hour:02}:30"})


def test_a_redis_that_is_killed_comes_back_with_every_acknowledged_job(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with warm_scene(redis_box, tmp_path) as scene:
        application, running = scene.application, scene.running
        application.add("ai-realtime", 1, ms=10_000)
        wait_until(lambda: is_paused(client), "batch is paused")
        application.add("ai-batch", *range(1, 21))
        redis_box.kill()
        wait_until(lambda: sees_nothing(running), "noticed")
        redis_box.start()
        wait_until(lambda: sees_again(running), "back")
        assert is_paused(client)
        wait_until(lambda: sorted(set(application.ended("ai-batch"))) == list(range(21)), "batch has ended", 60)
        assert len(application.ended("ai-batch")) == 21


def test_after_a_flush_no_lane_stays_paused_and_the_coordinator_goes_on(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with app(redis_box.url, 5) as application, coordinator(lanes(redis_box.url), tmp_path):
        started(application)
        application.add("ai-realtime", 1, ms=400)
        wait_until(lambda: is_paused(client), "batch is paused")
        client.flushall()
        wait_until(lambda: not is_paused(client), "not paused")
        application.add("ai-realtime", 2, ms=600)
        wait_until(lambda: is_paused(client), "paused again, by the version that was known before")
        application.add("ai-batch", 1, 2)
        wait_until(lambda: {1, 2} <= set(application.ended("ai-batch")), "resumed again")


def test_a_queue_without_a_version_is_refused_with_the_reason(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with app(redis_box.url, 5) as application:
        application.add("ai-batch", 1)
        client.hdel("bull:ai-batch:meta", "version")
        with coordinator(lanes(redis_box.url), tmp_path) as running:
            application.ask("work", queue="ai-realtime")
            application.add("ai-realtime", 1, ms=500)
            wait_until(lambda: bool(running.of("queue_refused")), "refused")
            assert "set bullmq_major for the lane" in running.of("queue_refused")[0]["reason"]
            assert not is_paused(client)


def test_the_status_says_that_all_is_there(redis_box: RedisServer, tmp_path: Path) -> None:
    with app(redis_box.url, 5) as application, coordinator(lanes(redis_box.url), tmp_path) as running:
        started(application)
        with urllib.request.urlopen(f"{running.url}/v1/status", timeout=5) as answer:
            assert json.load(answer) == {"available": True, "tenants": {"ollama": {"available": True, "why": ""}}}
        with urllib.request.urlopen(f"{running.url}/v1/lanes", timeout=5) as answer:
            assert [lane["lane"] for lane in json.load(answer)["lanes"]] == ["realtime", "batch"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{running.url}/v1/status/nobody", timeout=5)
        assert refused.value.code == 404
        running.stop()
        assert running.process.returncode == 0
