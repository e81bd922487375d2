"""What goes wrong between the coordinator, its Redis and its clock; each ends in the right state."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from helpers.adapters.clock import SystemClock
from helpers.adapters.redis_.board import mark_key
from helpers.apps.coordinator import RunSettings, run_coordinator
from lab.queues.apps import app, wait_until
from lab.queues.coordinators import coordinator
from lab.queues.stall import proxy
from lab.redis_server import RedisServer, redis_server
from tests.fakes.lanes import NIGHT
from tests.queues.scene import is_paused, lanes, sees_again, sees_nothing, started, warm_scene


def test_a_network_that_stalls_and_delivers_late_leaves_nothing_paused(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Realtime ends while the coordinator sees nothing: batch stays paused until it sees again, and no longer."""
    with warm_scene(redis_box, tmp_path, stalls=True) as scene:
        application, running, between = scene.application, scene.running, scene.between
        # Long enough that the pause is seen and the stall begins before it ends.
        before = len(running.of("queue_paused"))
        application.add("ai-realtime", 1, ms=6000)
        # Paused, and its answer has come: after one that got none the mark would stay for a minute.
        wait_until(lambda: len(running.of("queue_paused")) > before, "paused")
        assert is_paused(client)
        between.stall()
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        application.add("ai-batch", 1, 2, 3)
        wait_until(lambda: sees_nothing(running), "noticed")
        assert is_paused(client)
        between.flow()
        wait_until(lambda: {1, 2, 3} <= set(application.ended("ai-batch")), "batch has ended")
        assert sorted(application.ended("ai-batch")) == [0, 1, 2, 3]
        wait_until(lambda: client.get(mark_key("ai-batch")) is None, "its mark is taken away after the pause")


def test_a_pause_that_was_sent_into_a_stall_arrives_late_and_is_taken_back(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Its client gave up on it long before; with its mark it is known as ours all the same."""
    with warm_scene(redis_box, tmp_path, stalls=True) as scene:
        application, running, between = scene.application, scene.running, scene.between
        before = pauses(client)
        between.stall_at(b"evalsha")  # BullMQ's own script, which is the pause
        application.add("ai-realtime", 1, ms=500)
        wait_until(lambda: between.stalls, "the pause was sent")
        assert client.get(mark_key("ai-batch")) is not None, "its mark went before it"
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        wait_until(lambda: bool(running.of("pause_failed")), "given up")
        assert pauses(client) == before
        between.flow()
        wait_until(lambda: pauses(client) == before + 1, "it arrives")
        application.add("ai-batch", 1, 2)
        wait_until(lambda: {1, 2} <= set(application.ended("ai-batch")), "batch has ended")
        wait_until(lambda: not is_paused(client), "nothing stays paused")


def pauses(client: redis.Redis) -> int:
    """How often batch was paused."""
    events: Any = client.xrange("bull:ai-batch:events")
    return sum(fields["event"] == "paused" for _, fields in events)


def test_a_failover_to_the_replica_loses_no_acknowledged_job_and_the_pause_stays_ours(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Everybody reaches Redis by one address, as through a Service: after the failover another server answers there."""
    with (
        redis_server(tmp_path / "replica", replica_of=redis_box.port) as replica,
        proxy(redis_box.port) as between,
        app(between.url, 5) as application,
        coordinator(lanes(between.url), tmp_path) as running,
    ):
        copy: redis.Redis = redis.Redis.from_url(replica.url, decode_responses=True)
        wait_until(lambda: copy.info("replication")["master_link_status"] == "up", "the replica has caught up")
        started(application)
        application.add("ai-realtime", 1, ms=4000)
        wait_until(lambda: is_paused(client), "batch is paused")
        application.add("ai-batch", *range(1, 21))
        # Redis itself promises only what a replica has acknowledged. The stream is ordered: all before this has.
        client.set("probe", "1")
        assert client.wait(1, 10_000) == 1
        redis_box.kill()
        wait_until(lambda: sees_nothing(running), "noticed")
        copy.replicaof("NO", "ONE")
        between.turn_to(replica.port)
        wait_until(lambda: sees_again(running), "another one answers")
        wait_until(lambda: set(range(21)) <= set(application.ended("ai-batch")), "batch has ended")
        assert sorted(application.ended("ai-batch")) == list(range(21)), "each once"
        wait_until(lambda: not is_paused(copy) and copy.get(mark_key("ai-batch")) is None, "nothing stays")
        copy.close()


class JumpingClock(SystemClock):
    """The machine's clock, whose wall time the test sets."""

    def __init__(self, at: datetime) -> None:
        self._offset = at - datetime.now(UTC)

    def now_at(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def jump_to(self, at: datetime) -> None:
        self._offset = at - datetime.now(UTC)


def test_a_clock_that_jumps_over_summer_time_ends_where_the_wall_clock_says(
    redis_box: RedisServer, client: redis.Redis
) -> None:
    """Berlin: 18:00-09:00. On 2026-03-29 the clock goes from 02:00 to 03:00, on 2026-10-25 from 03:00 to 02:00."""
    clock = JumpingClock(datetime(2026, 3, 28, 16, 0, tzinfo=UTC))  # 17:00 in winter time
    stop = threading.Event()
    declared = lanes(redis_box.url, windows=[NIGHT])
    run = RunSettings(identity="test", address="")
    thread = threading.Thread(
        target=run_coordinator, args=(declared, run, None), kwargs={"stop": stop.is_set, "clock": clock}
    )
    with app(redis_box.url, 5) as application:
        started(application)
        thread.start()
        try:
            wait_until(lambda: is_paused(client), "paused before 18:00")
            clock.jump_to(datetime(2026, 3, 28, 16, 59, 58, tzinfo=UTC))
            wait_until(lambda: not is_paused(client), "open at 18:00, without any event")
            for at, paused in (
                (datetime(2026, 3, 29, 6, 59, 50, tzinfo=UTC), False),  # 08:59:50 in summer time
                (datetime(2026, 3, 29, 7, 0, 5, tzinfo=UTC), True),  # 09:00:05; in winter time it were 08:00
                (datetime(2026, 3, 29, 15, 59, 50, tzinfo=UTC), True),
                (datetime(2026, 3, 29, 16, 0, 5, tzinfo=UTC), False),  # 18:00:05
                (datetime(2026, 10, 25, 7, 59, 50, tzinfo=UTC), False),  # 08:59:50, winter again
                (datetime(2026, 10, 25, 8, 0, 5, tzinfo=UTC), True),
                (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), False),  # the clock was set back half a year
            ):
                clock.jump_to(at)
                wait_until(lambda paused=paused: is_paused(client) == paused, f"paused is {paused} at {at}")  # type: ignore[misc]
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()
