"""The worker-side helpers, in real workers: no batch job begins beside a realtime one, no attempt is used up."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import bullmq
import pytest
import redis
import redis.asyncio

from helpers.sdk.lane import Lane, Unavailable
from lab.ollama import StandInOllama, stand_in_ollama
from lab.queues.apps import HELPER, app, wait_until
from lab.queues.coordinators import coordinator
from lab.redis_server import RedisServer
from tests.queues.scene import is_paused, lanes, started

CLOSED = {"open": False, "reason": "gpu_away", "retry_after_seconds": 0.3, "yields_to": []}
YIELDS = {"open": True, "reason": "open", "retry_after_seconds": 0.2, "yields_to": ["bull:ai-realtime"]}


def publish(client: redis.Redis, document: dict[str, Any], lane: str = "batch") -> None:
    client.set(f"gpumem:lane:{lane}", json.dumps(document))


@pytest.mark.parametrize("major", [4, 5, 6])
def test_a_job_that_finds_its_lane_closed_comes_back_later_with_all_its_attempts(
    major: int, redis_box: RedisServer, client: redis.Redis
) -> None:
    publish(client, CLOSED)
    with app(redis_box.url, major, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        application.add("ai-batch", 1, attempts=1)
        wait_until(lambda: bool(client.zcard("bull:ai-batch:delayed")), "delayed")
        assert application.ended("ai-batch") == []
        publish(client, {**CLOSED, "open": True})
        wait_until(lambda: application.ended("ai-batch") == [1], "has ended")


@pytest.mark.parametrize("major", [4, 5, 6])
def test_a_job_that_was_put_back_may_still_fail_as_often_as_it_was_given(
    major: int, redis_box: RedisServer, client: redis.Redis
) -> None:
    """Put back several times, then failing once of two attempts: it is tried again, and ends."""
    publish(client, {**CLOSED, "retry_after_seconds": 0.1})
    with app(redis_box.url, major, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        application.ask("add", queue="ai-batch", jobs=[{"data": {"n": 1, "fails": 1}, "opts": {"attempts": 2}}])
        # Two put-backs at least: each start is an event.
        wait_until(lambda: starts(client) >= 3, "put back several times")
        publish(client, {**CLOSED, "open": True})
        wait_until(lambda: application.ended("ai-batch") == [1], "has ended")


@pytest.mark.parametrize("major", [4, 5, 6])
def test_and_not_more_often(major: int, redis_box: RedisServer, client: redis.Redis) -> None:
    publish(client, {**CLOSED, "retry_after_seconds": 0.1})
    with app(redis_box.url, major, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        application.ask("add", queue="ai-batch", jobs=[{"data": {"n": 1, "fails": 9}, "opts": {"attempts": 2}}])
        wait_until(lambda: starts(client) >= 3, "put back several times")
        publish(client, {**CLOSED, "open": True})
        wait_until(lambda: client.zcard("bull:ai-batch:failed") == 1, "failed for good")
        assert len([one for one in application.did if one["event"] == "began"]) == 2


@pytest.mark.parametrize("major", [4, 5, 6])
def test_a_job_that_meets_a_dead_server_comes_back_with_all_its_attempts(
    major: int, redis_box: RedisServer, client: redis.Redis
) -> None:
    """The lane is open, for nobody has noticed yet: the worker's own client has."""
    publish(client, {**YIELDS, "away_retry_seconds": 0.1})
    ollama = StandInOllama({}, down=True)
    with stand_in_ollama(ollama), app(redis_box.url, major, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        job = {"data": {"n": 1, "url": f"{ollama.url}/api/version", "fails": 1}, "opts": {"attempts": 2}}
        application.ask("add", queue="ai-batch", jobs=[job])
        wait_until(lambda: starts(client) >= 4, "failed once as asked, and put back several times")
        ollama.down = False
        wait_until(lambda: application.ended("ai-batch") == [1], "has ended")
        assert client.zcard("bull:ai-batch:failed") == 0


def starts(client: redis.Redis) -> int:
    events: Any = client.xrange("bull:ai-batch:events")
    return sum(fields["event"] == "active" for _, fields in events)


@pytest.mark.parametrize("major", [4, 5, 6])
def test_no_batch_job_begins_while_a_realtime_one_is_active_though_nobody_pauses(
    major: int, redis_box: RedisServer, client: redis.Redis
) -> None:
    """The helper alone, without a coordinator that pauses: the script sees the realtime list as it begins."""
    publish(client, YIELDS)
    with app(redis_box.url, major, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        application.ask("work", queue="ai-realtime")
        application.add("ai-realtime", 1, ms=700)
        wait_until(lambda: client.llen("bull:ai-realtime:active") == 1, "realtime is active")
        application.add("ai-batch", 1, 2, 3)
        wait_until(lambda: sorted(application.ended("ai-batch")) == [1, 2, 3], "batch has ended")
        (realtime,) = [one for one in application.did if one["queue"] == "ai-realtime" and one["event"] == "ended"]
        began = [one["at"] for one in application.did if one["queue"] == "ai-batch" and one["event"] == "began"]
        assert min(began) >= realtime["at"]


def test_without_a_coordinator_jobs_begin_as_if_the_helper_were_not_there(redis_box: RedisServer) -> None:
    with app(redis_box.url, 5, helper=HELPER) as application:
        application.ask("work", queue="ai-batch", lane="batch")
        application.add("ai-batch", 1)
        wait_until(lambda: application.ended("ai-batch") == [1], "has ended")


def test_a_realtime_job_waits_for_the_batch_job_that_still_runs(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with app(redis_box.url, 5, helper=HELPER) as application, coordinator(lanes(redis_box.url), tmp_path) as running:
        application.ask("work", queue="ai-batch", lane="batch")
        application.ask("work", queue="ai-realtime", lane="realtime")
        application.add("ai-batch", 1, ms=1500)
        wait_until(lambda: client.llen("bull:ai-batch:active") == 1, "batch is active")
        application.add("ai-realtime", 1, ms=10)
        wait_until(lambda: application.ended("ai-realtime") == [1], "realtime has ended")
        (batch,) = [one for one in application.did if one["queue"] == "ai-batch" and one["event"] == "ended"]
        (realtime,) = [one for one in application.did if one["queue"] == "ai-realtime" and one["event"] == "began"]
        assert realtime["at"] >= batch["at"]
        assert running.of("lane_changed")


def test_a_python_worker_is_guarded_by_the_same_script(redis_box: RedisServer, client: redis.Redis) -> None:
    """bullmq 3 for Python, which leaves no version: the helper needs none."""
    done: list[int] = []

    async def scenario() -> None:
        connection = redis.asyncio.Redis.from_url(redis_box.url, decode_responses=True)
        guard = Lane(connection, "batch", bullmq.DelayedError)

        async def work(job: Any, token: str) -> None:
            async with guard.begin(job, token):
                done.append(job.data["n"])

        queue = bullmq.Queue("ai-batch", {"connection": redis_box.url})
        worker = bullmq.Worker("ai-batch", work, {"connection": redis_box.url})
        publish(client, {**YIELDS, "retry_after_seconds": 0.2})
        client.lpush("bull:ai-realtime:active", "1")  # as if a realtime job ran
        await queue.add("job", {"n": 1}, {"attempts": 1})
        await until(lambda: bool(client.zcard("bull:ai-batch:delayed")))
        assert done == []
        client.delete("bull:ai-realtime:active")
        await until(lambda: done == [1])
        await worker.close()
        await queue.close()
        await connection.aclose()

    asyncio.run(scenario())
    assert client.zcard("gpumem:running:batch") == 0


def test_a_python_job_that_meets_a_dead_server_goes_back_and_realtime_is_told(
    redis_box: RedisServer, client: redis.Redis
) -> None:
    publish(client, {**YIELDS, "away_retry_seconds": 300, "yields_to": []})
    publish(client, {**YIELDS, "yields_to": [], "waits_for": [], "wait_seconds": 0}, "realtime")
    delayed: list[tuple[int, str]] = []

    class Job:
        id = "1"

        async def moveToDelayed(self, timestamp: int, token: str) -> None:  # noqa: N802 - BullMQ's name
            delayed.append((timestamp, token))

    async def work(lane: str) -> None:
        connection = redis.asyncio.Redis.from_url(redis_box.url, decode_responses=True)
        try:
            async with Lane(connection, lane, bullmq.DelayedError, away=(ConnectionError,)).begin(Job(), "token"):
                raise ConnectionRefusedError("nobody listens")
        finally:
            await connection.aclose()

    with pytest.raises(bullmq.DelayedError):
        asyncio.run(work("batch"))
    (until, token), now_ms = delayed[0], time.time() * 1000
    assert (200_000 < until - now_ms < 400_000, token) == (True, "token")
    with pytest.raises(Unavailable, match="AI service temporarily unavailable"):
        asyncio.run(work("realtime"))
    assert (len(delayed), client.zcard("gpumem:running:batch")) == (1, 0)


def test_a_realtime_job_is_told_how_long_it_will_wait(redis_box: RedisServer, client: redis.Redis) -> None:
    publish(client, {**YIELDS, "yields_to": [], "waits_for": ["bull:ai-batch"], "wait_seconds": 42}, "realtime")
    client.lpush("bull:ai-batch:active", "1")
    told: list[float | None] = []

    class Job:
        id = "1"

        async def moveToDelayed(self, timestamp: int, token: str) -> None:  # noqa: N802 - BullMQ's name
            raise AssertionError("a realtime job is not delayed")

    def waiting(seconds: float | None) -> None:
        told.append(seconds)
        client.delete("bull:ai-batch:active")

    async def scenario() -> None:
        connection = redis.asyncio.Redis.from_url(redis_box.url, decode_responses=True)
        async with Lane(connection, "realtime", bullmq.DelayedError, waiting=waiting).begin(Job(), "token"):
            assert told == [42]
        await connection.aclose()

    asyncio.run(scenario())


def test_a_realtime_job_in_python_is_told_that_the_card_is_away(redis_box: RedisServer, client: redis.Redis) -> None:
    document = {"open": False, "reason": "gpu_away", "message": "AI service temporarily unavailable"}
    publish(client, {**document, "retry_after_seconds": 30, "yields_to": [], "waits_for": []}, "realtime")

    class Job:
        id = "1"

        async def moveToDelayed(self, timestamp: int, token: str) -> None:  # noqa: N802 - BullMQ's name
            raise AssertionError("a realtime job is not delayed")

    async def scenario() -> None:
        connection = redis.asyncio.Redis.from_url(redis_box.url, decode_responses=True)
        with pytest.raises(Unavailable, match="AI service temporarily unavailable") as refused:
            async with Lane(connection, "realtime", bullmq.DelayedError).begin(Job(), "token"):
                raise AssertionError("it must not begin")
        assert refused.value.retry_after_seconds == 30
        await connection.aclose()

    asyncio.run(scenario())


async def until(check: Any, seconds: float = 60.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not in time")


def test_the_coordinator_tells_the_helpers_what_they_need(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with app(redis_box.url, 5) as application, coordinator(lanes(redis_box.url), tmp_path):
        started(application)
        application.add("ai-realtime", 1, ms=500)
        wait_until(lambda: is_paused(client), "paused")
        batch, realtime = (json.loads(str(client.get(f"gpumem:lane:{lane}"))) for lane in ("batch", "realtime"))
        assert (batch["open"], batch["reason"], batch["yields_to"]) == (False, "yields", ["bull:ai-realtime"])
        assert (realtime["open"], realtime["waits_for"]) == (True, ["bull:ai-batch"])
        assert client.pttl("gpumem:lane:batch") > 0
